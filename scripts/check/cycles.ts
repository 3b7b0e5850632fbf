import { dirname, join, normalize } from 'node:path';
import type { SourceFile } from './imports.ts';
import { importsOf } from './imports.ts';

/** Each circle of imports once, as one line: neither file of it can be understood, or tested, without the other. */
export function importCycles(files: readonly SourceFile[]): readonly string[] {
  const graph = new Map(files.map(({ path, text }) => [path, importsOf(text).filter((one) => one.startsWith('.')).map((one) => normalize(join(dirname(path), one)))]));
  const done = new Set<string>();
  const found: string[] = [];

  function visit(path: string, trail: readonly string[]): void {
    const at = trail.indexOf(path);
    if (at >= 0) found.push(`imports go in a circle: ${[...trail.slice(at), path].join(' → ')}`);
    if (at >= 0 || done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  }

  for (const { path } of files) visit(path, []);
  return found;
}
