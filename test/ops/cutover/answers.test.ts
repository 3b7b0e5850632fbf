import { expect, it } from 'vitest';
import { confirmLines, revertLine } from '../../../src/ops/cutover/answers.ts';
import type { Reverted } from '../../../src/ops/cutover/confirm.ts';

const reverted = (over: Partial<Reverted> = {}): string => revertLine('T', { was: 'not-switched', verdict: 'equal', onlyInElasticsearch: 0, differences: 0, done: true, ...over });

it('names the replay that brings late rows over, from the time of the switch, and not a way back that would refuse', () => {
  const switched = [{ tenantId: 'T', at: '2026-07-01T12:00:00.000Z', lsn: '0/1' }];
  expect(confirmLines({ switched, writtenMeanwhile: false })).toEqual([expect.stringContaining('T: switched at 0/1')]);
  const late = confirmLines({ switched, writtenMeanwhile: true }).at(-1);
  expect(late).toContain('replay --from-time 2026-07-01T12:00:00.000Z --run --force');
  expect(late).not.toContain('--revert');
});

it('says that both ends are equal only where that was seen', () => {
  expect(reverted()).toMatch(/was not switched, and both ends are equal/);
  const others = [{ verdict: 'unsettled' }, { onlyInElasticsearch: 1 }, { verdict: 'different', differences: 1 }] as const;
  for (const over of others) for (const done of [true, false]) expect(reverted({ ...over, done })).not.toContain('are equal');
  expect(reverted({ onlyInElasticsearch: 3, done: false })).toMatch(/not taken back: 3 documents exist in Elasticsearch alone/);
  expect(reverted({ verdict: 'unsettled', done: false })).toMatch(/not taken back: rows kept changing, or the path did not drain/);
});
