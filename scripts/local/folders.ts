import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { chmodSync } from 'node:fs';
import type { ServerOptions } from './server.ts';
import type { ServerKind } from './state.ts';
import type { ServerUser } from './user.ts';
import { reachableDir } from './user.ts';

export interface Folders {
  /** Of the instance: run/ with the pid files, log/, one home for each server. */
  readonly dir: string;
  readonly home: string;
  readonly logFile: string;
  /** What `destroy` removes. */
  readonly remove: readonly string[];
}

/** A server's folders. Each version has a home of its own, so that `--pg 15` after 18 does not meet foreign data. */
export function foldersOf(kind: ServerKind, version: string, options: ServerOptions, user: ServerUser | undefined): Folders {
  const dir = options.dir === undefined ? mkdtempSync(join(tmpdir(), `dify-es-${kind}-`)) : resolve(options.dir);
  // mkdtemp makes it for its owner alone, and PostgreSQL may run as somebody else.
  if (options.dir === undefined) chmodSync(dir, 0o755);
  const home = reachableDir(join(dir, `${kind}-${version}${options.secure ? '-secure' : ''}`), user);
  const log = join(dir, 'log');
  mkdirSync(log, { recursive: true });
  return { dir, home, logFile: join(log, `${kind}.log`), remove: options.dir === undefined ? [home, dir] : [home] };
}
