import { expect, test } from 'vitest';
import { parseLsn } from '../../../src/core/lsn.ts';
import { KnownCommit } from '../../../src/pipeline/capture/known-commit.ts';

const at = (endLsn: string, timeMs = 7): { endLsn: string; timeMs: number } => ({ endLsn, timeMs });
const known = (slot = '0/100'): KnownCommit => new KnownCommit(at('0/500'), parseLsn(slot));

test('is met where it was, whatever comes before and after it', () => {
  const check = known();
  check.commit(parseLsn('0/400'), 1);
  check.position(parseLsn('0/4FF'));
  check.commit(parseLsn('0/500'), 7);
  check.position(parseLsn('0/500'));
  check.commit(parseLsn('0/600'), 8);
  expect(check.isMissing).toBe(false);
});

test.each([
  ['another commit ends there', (check: KnownCommit) => check.commit(parseLsn('0/500'), 8)],
  ['a later one comes', (check: KnownCommit) => check.commit(parseLsn('0/501'), 7)],
  ['the server has sent everything up to there', (check: KnownCommit) => check.position(parseLsn('0/500'))],
])('is missing where %s', (_, come) => {
  const check = known();
  check.commit(parseLsn('0/400'), 1);
  expect(check.isMissing).toBe(false);
  come(check);
  expect(check.isMissing).toBe(true);
  check.forget();
  check.position(parseLsn('0/900'));
  expect(check.isMissing).toBe(false);
});

test('is not awaited from a slot that stands behind it, nor where none was recorded', () => {
  for (const check of [known('0/500'), known('0/900'), new KnownCommit(undefined, parseLsn('0/100'))]) {
    check.position(parseLsn('0/900'));
    check.commit(parseLsn('0/901'), 1);
    expect(check.isMissing).toBe(false);
  }
});
