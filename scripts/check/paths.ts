import { dirname, join, normalize } from 'node:path';
import type { SourceFile } from './imports.ts';

/** Top folders and files whose names in a text mean a path of this checkout. */
const NAMED = /(?<![\w./-])((?:src|docs|test|connectors|scripts|bin|\.ci)\/[\w./*{}<>-]*[\w*}>/]|docker-compose(?:\.[\w]+)?\.yml|vitest\.config\.ts|Dockerfile)(?![\w/])/g;
const LINK = /\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)/g;

/** Paths that a document names and that do not exist, one line each. `exists` gets a path in the checkout. */
export function deadPaths(documents: readonly SourceFile[], exists: (path: string) => boolean): readonly string[] {
  return documents.flatMap(({ path, text }) => {
    const links = [...text.matchAll(LINK)].map(([, target]) => normalize(join(dirname(path), target ?? '')));
    const dead = [...new Set([...namedPaths(text), ...links])].filter((target) => !exists(target));
    return dead.map((target) => `${path} names ${target}, which does not exist`);
  });
}

/** A pattern (`connectors/<table>.ts`, `*.es.test.ts`) is cut at its first wild part: the folder has to exist. */
function namedPaths(text: string): readonly string[] {
  return [...text.matchAll(NAMED)].map(([, target]) => (target ?? '').replace(/\/[^/]*[*{}<>].*$/, '/').replace(/\/$/, ''));
}
