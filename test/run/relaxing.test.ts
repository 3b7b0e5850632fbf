import { expect, test } from 'vitest';
import { Backfilling } from '../../src/run/relaxing.ts';

test('a backfill is read while a run is open and somebody gives signs of life', () => {
  const backfilling = new Backfilling(30_000, 1000);
  expect(backfilling.state(false, 2000)).toBe('over');
  // A process that lives has shown itself within the time.
  expect(backfilling.state(true, 2000)).toBe('reading');
  expect(backfilling.state(true, 31_000)).toBe('over');
  backfilling.sign(40_000);
  expect(backfilling.state(true, 69_999)).toBe('reading');
  expect(backfilling.state(true, 70_000)).toBe('over');
  backfilling.sign(500_000);
  expect(backfilling.state(false, 500_001)).toBe('over');
});
