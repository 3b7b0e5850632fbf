import { expect, test } from 'vitest';
import { judgeLoad, type SourceLoad } from '../../../src/ops/watch/source-load.ts';

const MB = 1_048_576;
const LIMITS = { lagBytes: 100 * MB, standbyLagSeconds: 30, waiting: 20 };
const fine: SourceLoad = { slotLagBytes: 0, standby: null, standbyLagBytes: null, standbyLagSeconds: null, waiting: 0 };
const why = (load: Partial<SourceLoad>, braking = false, limits = LIMITS): string | null => judgeLoad({ ...fine, ...load }, limits, braking).why;

test('nothing is wrong with an idle source, nor with one of which nothing is known', () => {
  expect(why({})).toBeNull();
  expect(why({ slotLagBytes: null, waiting: null })).toBeNull();
});

test('each figure beyond its limit is named with it', () => {
  expect(why({ slotLagBytes: 101 * MB })).toBe('the reader is 101 MB of WAL behind (MIGRATE_MAX_LAG 100 MB)');
  expect(why({ standby: 's1', standbyLagBytes: 300 * MB })).toContain('the standby s1 is 300 MB of WAL behind');
  expect(why({ standby: 's1', standbyLagBytes: 1, standbyLagSeconds: 31 })).toBe('the standby s1 is 31 s behind (MIGRATE_MAX_STANDBY_LAG 30 s)');
  expect(why({ waiting: 21 })).toBe('21 sessions of others wait in the middle of a statement (MIGRATE_MAX_WAITING 20)');
});

test('once it waits it goes on only well below the limit', () => {
  expect([why({ waiting: 20 }), why({ waiting: 15 })]).toEqual([null, null]);
  expect([why({ waiting: 20 }, true), why({ waiting: 15 }, true), why({ waiting: 14 }, true)]).toEqual([expect.any(String), expect.any(String), null]);
});

test('0 is no limit', () => {
  expect(why({ slotLagBytes: 1e15, standby: 's', standbyLagBytes: 1e15, standbyLagSeconds: 1e6, waiting: 1e6 }, false, { lagBytes: 0, standbyLagSeconds: 0, waiting: 0 })).toBeNull();
});
