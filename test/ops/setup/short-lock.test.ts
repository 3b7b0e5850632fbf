import { expect, test } from 'vitest';
import { mayQueue } from '../../../src/ops/setup/short-lock.ts';
import { LOCK_TIMEOUT_MS } from '../../../src/ops/setup/sql.ts';

const holder = (ageSeconds: number, pid: number | null = 1) => ({ pid, name: 'celery', state: 'active', ageSeconds });

test('the queue for the lock is joined only where it moves: behind nobody, or behind transactions that just began', () => {
  expect(mayQueue([], 0)).toBe(true);
  expect(mayQueue([holder(0), holder(0)], 0)).toBe(true);
  expect(mayQueue([holder(0), holder(1)], 0)).toBe(false);
});

test('behind one of up to a minute it is tried all the same every ten seconds, since a busy server always has one', () => {
  expect(mayQueue([holder(5)], 9_999)).toBe(false);
  expect(mayQueue([holder(5)], 10_000)).toBe(true);
  expect(mayQueue([holder(61)], 1_000_000)).toBe(false);
});

test('a prepared transaction does not end by itself', () => {
  expect(mayQueue([holder(0, null)], 1_000_000)).toBe(false);
});

test('nobody waits for a second behind setup', () => {
  expect(LOCK_TIMEOUT_MS).toBeLessThan(1000);
});
