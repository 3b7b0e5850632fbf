import { expect, test } from 'vitest';
import { MIN_BULK_BYTES, firstBulkSize, nextBulkSize } from '../../../src/pipeline/sink/bulk-size.ts';
import type { BulkObservation } from '../../../src/pipeline/sink/bulk-size.ts';

const MB = 1 << 20;
const seen = (sentBytes: number, more: Partial<BulkObservation> = {}): BulkObservation => ({ sentBytes, tookMs: 200, rejected: false, tooLarge: false, ...more });

test('full bulks that go well grow to the limit and not beyond', () => {
  let size = firstBulkSize(8 * MB);
  expect(size.bytes).toBe(4 * MB);
  for (let i = 0; i < 20; i++) size = nextBulkSize(size, seen(size.bytes));
  expect(size.bytes).toBe(8 * MB);
});

test('a small bulk says nothing about larger ones', () => {
  const size = firstBulkSize(8 * MB);
  expect(nextBulkSize(size, seen(10_000))).toStrictEqual(size);
});

test('429 and slowness halve it, down to a floor, and it grows again', () => {
  let size = firstBulkSize(8 * MB);
  expect(nextBulkSize(size, seen(size.bytes, { rejected: true })).bytes).toBe(2 * MB);
  expect(nextBulkSize(size, seen(size.bytes, { tookMs: 20_000 })).bytes).toBe(2 * MB);
  for (let i = 0; i < 20; i++) size = nextBulkSize(size, seen(size.bytes, { rejected: true }));
  expect(size.bytes).toBe(MIN_BULK_BYTES);
  expect(nextBulkSize(size, seen(size.bytes)).bytes).toBeGreaterThan(MIN_BULK_BYTES);
});

test('what was refused as too large is not asked for again', () => {
  let size = nextBulkSize(firstBulkSize(8 * MB), seen(4 * MB, { tooLarge: true }));
  expect(size).toStrictEqual({ bytes: 2 * MB, maxBytes: 2 * MB });
  for (let i = 0; i < 20; i++) size = nextBulkSize(size, seen(size.bytes));
  expect(size.bytes).toBe(2 * MB);
});

test('one document that is too large alone does not shrink the bulks of others below the floor', () => {
  expect(nextBulkSize(firstBulkSize(8 * MB), seen(100, { tooLarge: true })).bytes).toBe(MIN_BULK_BYTES);
});
