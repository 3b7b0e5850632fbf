import { describe, expect, it } from 'vitest';
import { judgeWal } from '../../../src/ops/watch/wal-budget.ts';

const MB = 1024 * 1024;
const at = (seconds: number, megabytes: number) => ({ atMs: seconds * 1000, retainedBytes: megabytes * MB });

describe('the verdict on WAL that the slot holds back', () => {
  it('is unlimited where nothing keeps it from filling the disk', () => {
    expect(judgeWal([at(0, 10)], { serverBytes: null, budgetBytes: null })).toMatchObject({ level: 'unlimited', share: null, secondsLeft: null });
  });

  it('takes the lower of both limits', () => {
    expect(judgeWal([at(0, 10)], { serverBytes: 100 * MB, budgetBytes: 40 * MB })).toMatchObject({ limitBytes: 40 * MB, share: 0.25 });
    expect(judgeWal([at(0, 10)], { serverBytes: 20 * MB, budgetBytes: 40 * MB })).toMatchObject({ limitBytes: 20 * MB, share: 0.5 });
  });

  it.each([[69, 'ok'], [70, 'near'], [99, 'near'], [100, 'past'], [150, 'past']] as const)('says of %i %% of the limit: %s', (megabytes, level) => {
    expect(judgeWal([at(0, megabytes)], { serverBytes: null, budgetBytes: 100 * MB }).level).toBe(level);
  });

  it('tells the time left from the growth over all samples', () => {
    const verdict = judgeWal([at(0, 10), at(10, 18), at(20, 30)], { serverBytes: 130 * MB, budgetBytes: null });
    expect(verdict.bytesPerSecond).toBe(MB);
    expect(verdict.secondsLeft).toBe(100);
  });

  it('has no time left to tell while the reader catches up, or past the limit', () => {
    expect(judgeWal([at(0, 30), at(10, 10)], { serverBytes: 100 * MB, budgetBytes: null }).secondsLeft).toBeNull();
    expect(judgeWal([at(0, 90), at(10, 110)], { serverBytes: 100 * MB, budgetBytes: null }).secondsLeft).toBeNull();
  });

  it('copes with no sample at all', () => {
    expect(judgeWal([], { serverBytes: null, budgetBytes: MB })).toMatchObject({ level: 'ok', retainedBytes: 0, bytesPerSecond: 0 });
  });
});
