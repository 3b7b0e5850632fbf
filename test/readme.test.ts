import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { VERBS } from '../src/cli/verbs.ts';

const readme = readFileSync(join(import.meta.dirname, '../README.md'), 'utf8');

it('lists exactly the verbs that the program has, in its order', () => {
  const table = /<!-- verbs -->(.*?)<!-- \/verbs -->/s.exec(readme)![1]!;
  const listed = [...table.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, verb]) => verb);
  expect(listed).toEqual(VERBS.map(({ name }) => name));
});

it('calls no verb and no flag that does not exist', () => {
  const blocks = [...readme.matchAll(/```sh\n(.*?)```/gs)].map(([, text]) => text!).join('\n');
  const calls = [...blocks.matchAll(/bin\/dify-es ([a-z-]+)/g)].map(([, verb]) => verb);
  expect(calls.length).toBeGreaterThan(0);
  for (const verb of calls) expect(VERBS.map(({ name }) => name)).toContain(verb);
});
