import { join } from 'node:path';
import { expect, it } from 'vitest';
import { testFiles } from '../../scripts/test/tiers.ts';
import { LONGEST } from './longest-first.ts';

it('the list of long files names files that exist, each once', () => {
  const files = testFiles(join(import.meta.dirname, '../..'));
  expect(LONGEST.filter((name) => files.filter((file) => file.endsWith(`/${name}.e2e.test.ts`)).length !== 1)).toEqual([]);
  expect(new Set(LONGEST).size).toBe(LONGEST.length);
});
