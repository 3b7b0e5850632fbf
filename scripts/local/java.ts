import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { LocalFault } from './fault.ts';
import type { ServerUser } from './user.ts';
import { canReach } from './user.ts';

/** Folders that hold one JDK each, on Debian, Red Hat, macOS and with sdkman. */
const PARENTS = ['/usr/lib/jvm', '/usr/java', '/opt/java', '/opt', '/Library/Java/JavaVirtualMachines', join(homedir(), '.sdkman/candidates/java')];

/** 17 for `17.0.15`, 8 for `1.8.0_402`; undefined when the text is no version. */
export function majorOf(version: string): number | undefined {
  const match = /^"?(?:1\.)?(\d+)/.exec(version);
  return match ? Number(match[1]) : undefined;
}

export interface Jdk {
  readonly home: string;
  /** 0 when there is no JDK in the folder. */
  readonly major: number;
}

/** The home of a JDK of at least `least` that the server's user can run. `what` names the server in the message. */
export function findJava(what: string, least: number, user: ServerUser | undefined): string {
  const asked = process.env['DIFY_ES_JAVA_HOME'];
  const named = [asked, process.env['JAVA_HOME']].filter((home): home is string => home !== undefined && home !== '');
  if (asked && majorOfHome(asked) === 0) throw new LocalFault(`DIFY_ES_JAVA_HOME=${asked} is no JDK: name the folder that holds bin/java, or leave it out`);
  const found = [...named, ...installed()].map((home) => ({ home, major: majorOfHome(home) }));
  return chooseJava(what, least, found.filter(({ home }) => canReach(join(home, 'bin'), user)), named).home;
}

/**
 * Of those that fit the first one named by DIFY_ES_JAVA_HOME or JAVA_HOME, else the oldest, since a server is tested by
 * its makers with the Java of its time.
 */
export function chooseJava(what: string, least: number, found: readonly Jdk[], named: readonly string[]): Jdk {
  const fitting = found.filter(({ major }) => major >= least).sort((a, b) => a.major - b.major);
  const chosen = named.map((home) => fitting.find((jdk) => jdk.home === home)).find((jdk) => jdk !== undefined) ?? fitting[0];
  if (chosen) return chosen;
  const have = [...new Set(found.map(({ major }) => major).filter((major) => major > 0))].join(', ') || 'none';
  throw new LocalFault(`${what} needs a JDK of version ${least} or later (found: ${have}): install one, or set DIFY_ES_JAVA_HOME to its folder`);
}

function installed(): readonly string[] {
  const homes = PARENTS.filter(existsSync).flatMap((parent) => readdirSync(parent).flatMap((name) => [join(parent, name), join(parent, name, 'Contents/Home')]));
  const onPath = (process.env['PATH'] ?? '').split(delimiter).map((dir) => join(dir, 'java')).filter(existsSync);
  const all = [...homes.filter((home) => existsSync(join(home, 'bin/java'))), ...onPath.map((java) => join(realpathSync(java), '../..'))];
  return [...new Set(all.map((home) => realpathSync(home)))];
}

/** From the JDK's `release` file, since starting Java takes a second; 0 when it is no JDK. */
function majorOfHome(home: string): number {
  const release = join(home, 'release');
  const line = existsSync(release) ? /^JAVA_VERSION=(.*)$/m.exec(readFileSync(release, 'utf8'))?.[1] : undefined;
  if (line !== undefined) return majorOf(line) ?? 0;
  const java = join(home, 'bin/java');
  if (!existsSync(java)) return 0;
  const spoken = spawnSync(java, ['-version'], { encoding: 'utf8' }).stderr;
  return majorOf(/version (".*?")/.exec(spoken)?.[1] ?? '') ?? 0;
}
