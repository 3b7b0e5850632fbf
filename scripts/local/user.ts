import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { LocalFault } from './fault.ts';

/** Whom a server runs as. */
export interface ServerUser {
  readonly uid: number;
  readonly gid: number;
}

/**
 * PostgreSQL and Elasticsearch refuse to run as root. Started by root they run as `nobody`, who exists everywhere;
 * a bare number would not do, since initdb looks its own user up by name. Undefined: we are not root, nothing to drop.
 */
export function serverUser(passwd: string = readPasswd()): ServerUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const name = process.env['DIFY_ES_SERVER_USER'] ?? 'nobody';
  const line = passwd.split('\n').find((entry) => entry.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined) {
    throw new LocalFault(`PostgreSQL and Elasticsearch do not run as root and this machine has no user ${name}: set DIFY_ES_SERVER_USER to one that exists`);
  }
  return { uid: Number(uid), gid: Number(gid) };
}

function readPasswd(): string {
  return existsSync('/etc/passwd') ? readFileSync('/etc/passwd', 'utf8') : '';
}

/** True when the server's user can enter the folder (each folder above it too) and read it. */
export function canReach(path: string, user: ServerUser | undefined): boolean {
  if (!user) return true;
  return spawnSync('/bin/sh', ['-c', 'test -r "$0" && test -x "$0"', path], { uid: user.uid, gid: user.gid, cwd: '/' }).status === 0;
}

/**
 * Makes `dir` and returns it; or, where the server's user cannot reach it (a checkout below /root), a folder in the
 * temporary directory that always is the same for the same `dir`.
 */
export function reachableDir(dir: string, user: ServerUser | undefined): string {
  makeDir(dir);
  if (canReach(dir, user)) return dir;
  const digest = createHash('sha256').update(resolve(dir)).digest('hex').slice(0, 16);
  const stand = join(tmpdir(), `dify-es-${digest}`);
  makeDir(stand);
  // The temporary directory is everybody's: a folder or link put there by somebody else must not become our data folder.
  const found = lstatSync(stand);
  if (!found.isDirectory() || ![process.getuid?.(), user?.uid].includes(found.uid)) throw new LocalFault(`${stand} belongs to somebody else: remove it, or set TMPDIR`);
  if (!canReach(stand, user)) throw new LocalFault(`${dir} cannot be read by the user the servers run as, nor can ${stand}: use a folder open to all, with --dir and DIFY_ES_SERVER_CACHE`);
  return stand;
}

/** Open to all whatever the umask says: the server's user has to pass through. */
function makeDir(dir: string): void {
  const missing = mkdirSync(dir, { recursive: true });
  if (missing !== undefined) for (let at = resolve(dir); at.length >= missing.length; at = resolve(at, '..')) chmodSync(at, 0o755);
}

/** Gives a file, or a folder with all that is in it, to the server's user. `itself`: the folder alone, its content is his already. */
export function giveTo(path: string, user: ServerUser | undefined, depth: 'all' | 'itself' = 'all'): void {
  if (!user) return;
  chownSync(path, user.uid, user.gid);
  if (depth === 'itself' || !lstatSync(path).isDirectory()) return;
  for (const name of readdirSync(path)) {
    const child = join(path, name);
    if (lstatSync(child).isSymbolicLink()) continue;
    giveTo(child, user);
  }
}
