import { expect, test } from 'vitest';
import { countsAsStandby, standbyNames } from '../../../src/pipeline/capture/sync-standby.ts';

const READER = 'dify-es stream';

test.each([
  ['', []], ['   ', []], ['s1', ['s1']], ['s1, s2', ['s1', 's2']], ['"my, node", s2', ['my, node', 's2']], ['2 (s1,s2)', ['s1', 's2']],
  ['FIRST 2 (s1, "s ""2""")', ['s1', 's "2"']], ['any 1 ( * )', ['*']], ['"*"', ['*']], ['first', ['first']],
])('%s lists %j', (setting, names) => {
  expect(standbyNames(setting)).toEqual(names);
});

test.each(['*', 'FIRST 1 (s1, *)', '"dify-es stream"', 'ANY 2 (s1, "DIFY-ES STREAM", s2)', '1 ("dify-es stream")'])('%s would make COMMIT wait for the reader', (setting) => {
  expect(countsAsStandby(setting, READER)).toBe(true);
});

test.each(['', 's1', 'ANY 1 (s1, s2)', '"dify-es"', 'FIRST 1 ("dify-es streamer")'])('%s leaves the reader alone', (setting) => {
  expect(countsAsStandby(setting, READER)).toBe(false);
});
