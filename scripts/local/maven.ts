import { chmodSync, cpSync, existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { LocalFault } from './fault.ts';
import { withLock } from './lock.ts';
import { run } from './run.ts';
import type { ServerUser } from './user.ts';
import { reachableDir } from './user.ts';

export const CHECKOUT = resolve(import.meta.dirname, '../..');

const PLUGIN = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1';

/** Where servers are unpacked, once for all instances of this checkout, or of this machine with DIFY_ES_SERVER_CACHE. */
function cacheDir(user: ServerUser | undefined): string {
  return reachableDir(process.env['DIFY_ES_SERVER_CACHE'] ?? join(CHECKOUT, '.local/cache'), user);
}

/**
 * The cached folder `name`, filled by `fill` when it is missing. It appears by a rename, so it is whole or absent also
 * when several runs start at once or one is killed while it unpacks.
 */
export async function cached(name: string, user: ServerUser | undefined, fill: (target: string) => void | Promise<void>): Promise<string> {
  const cache = cacheDir(user);
  const target = join(cache, name);
  if (existsSync(target)) return target;
  return withLock(join(cache, `${name}.lock`), async () => {
    if (existsSync(target)) return target;
    const making = join(cache, `${name}.${process.pid}.tmp`);
    rmSync(making, { recursive: true, force: true });
    mkdirSync(making, { recursive: true });
    await fill(making);
    openToAll(making);
    renameSync(making, target);
    return target;
  });
}

/** An artifact `group:name:version:type`, unpacked into the folder. */
export async function unpackArtifact(artifact: string, into: string): Promise<void> {
  // The plugin marks below its working folder what it has unpacked, and would not unpack it there a second time.
  const scratch = `${into}.maven`;
  mkdirSync(scratch, { recursive: true });
  try {
    await maven([`${PLUGIN}:unpack`, `-Dartifact=${artifact}`, `-DoutputDirectory=${into}`], artifact, scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The jars that a pom names, with all they depend on, put into the folder. */
export function copyDependencies(pom: string, into: string): Promise<void> {
  return maven([`${PLUGIN}:copy-dependencies`, '-f', pom, '-DincludeScope=runtime', `-DoutputDirectory=${into}`], pom, into);
}

/** A folder that the server's user can read, with a copy of `from`. */
export function copyTree(from: string, into: string): void {
  cpSync(from, into, { recursive: true, verbatimSymlinks: true });
}

async function maven(args: readonly string[], what: string, cwd: string): Promise<void> {
  const result = await run('mvn', ['-B', '-q', '-Dstyle.color=never', ...args], { cwd });
  if (result.error) throw new LocalFault('Maven (mvn) is not on the PATH: install it (Debian: apt install maven, macOS: brew install maven)');
  if (result.status === 0) return;
  const reason = `${result.stdout}\n${result.stderr}`.split('\n').find((line) => line.includes('ERROR')) ?? 'no reason given';
  throw new LocalFault(`Maven could not fetch ${what}; check the network or the mirror in Maven's settings.xml: ${reason.trim().slice(0, 400)}`);
}

/** Adds reading for all, and entering where the owner may enter: a umask of 077 would shut the server's user out. */
function openToAll(path: string): void {
  const found = lstatSync(path);
  if (found.isSymbolicLink()) return;
  chmodSync(path, found.mode | 0o444 | (found.mode & 0o100 ? 0o111 : 0));
  if (found.isDirectory()) for (const name of readdirSync(path)) openToAll(join(path, name));
}
