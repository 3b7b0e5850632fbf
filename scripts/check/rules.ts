import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { tierOf } from '../test/tiers.ts';
import { importCycles } from './cycles.ts';
import type { SourceFile } from './imports.ts';
import { importFaults } from './imports.ts';
import { deadPaths } from './paths.ts';

const LONGEST = 400;

/** All that the machine holds about the architecture; one line for each fault. */
export function checkAll(checkout: string): readonly string[] {
  const sources = filesBelow(checkout, ['src', 'connectors'], '.ts');
  const code = [...sources, ...filesBelow(checkout, ['test', 'scripts'], '.ts')];
  const documents = [...filesBelow(checkout, ['docs'], '.md'), ...['README.md'].filter((name) => existsSync(join(checkout, name))).map((name) => load(checkout, name))];
  return [
    ...importFaults(sources),
    ...importCycles(code),
    ...code.filter(({ text }) => lines(text) > LONGEST).map(({ path, text }) => `${path} has ${lines(text)} lines, more than ${LONGEST}`),
    ...deadPaths(documents, (path) => existsSync(join(checkout, path))),
    ...code.map(({ path }) => path).filter(isLostTest).map((path) => `${path} matches no tier, so it never runs: end it with .test.ts or .{pg,kafka,es,e2e,smoke}.test.ts`),
  ];
}

/** A file that looks like a test and that no project of vitest picks up. */
export function isLostTest(path: string): boolean {
  const looksLikeTest = /(^|[./])(test|spec)\.[cm]?[jt]sx?$/.test(path) && !path.startsWith('scripts/');
  return looksLikeTest && !(path.startsWith('test/') && tierOf(path) !== undefined);
}

function lines(text: string): number {
  return text.split('\n').length - 1;
}

function filesBelow(checkout: string, folders: readonly string[], ending: string): readonly SourceFile[] {
  return folders
    .filter((folder) => existsSync(join(checkout, folder)))
    .flatMap((folder) => readdirSync(join(checkout, folder), { recursive: true, encoding: 'utf8' }).map((file) => `${folder}/${file}`))
    .filter((path) => path.endsWith(ending) && !path.endsWith('.d.ts'))
    .sort()
    .map((path) => load(checkout, path));
}

function load(checkout: string, path: string): SourceFile {
  return { path, text: readFileSync(join(checkout, path), 'utf8') };
}
