import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerUser } from './user.ts';

/**
 * A process together with the moment it started. The kernel gives a pid again to somebody else; a signal is sent only
 * while both still fit.
 */
export interface ProcessMark {
  readonly pid: number;
  readonly started: string;
}

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly logFile: string;
  readonly user: ServerUser | undefined;
}

/** Starts a process that outlives this one, its output appended to the log file. Returns its pid. */
export function startDetached(launch: Launch): number {
  const log = openSync(launch.logFile, 'a');
  try {
    const child = spawn(launch.command, launch.args, {
      cwd: launch.cwd,
      env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LANG: 'C', ...launch.env },
      detached: true,
      stdio: ['ignore', log, log],
      ...(launch.user ?? {}),
    });
    // Without a listener a command that cannot be run ends this process; the caller sees the missing pid.
    child.on('error', () => undefined);
    child.unref();
    if (child.pid === undefined) throw new Error(`cannot run ${launch.command}`);
    return child.pid;
  } finally {
    closeSync(log);
  }
}

/**
 * The mark of a living process, undefined for one that is gone or a zombie. Our own child counts until it was reaped: up
 * to then its pid is taken, and PostgreSQL refuses to start over the lock file of a killed one (seen under load).
 */
export function markOf(pid: number): ProcessMark | undefined {
  const started = existsSync('/proc/self/stat') ? startFromProc(pid) : startFromPs(pid);
  return started === undefined ? undefined : { pid, started };
}

/** Fields of /proc/PID/stat after the command, whose name may itself hold blanks and parentheses (proc(5)). */
function statFields(pid: number): readonly string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function startFromProc(pid: number): string | undefined {
  const fields = statFields(pid);
  if (!fields || fields[0] === 'X' || (fields[0] === 'Z' && fields[1] !== String(process.pid))) return undefined;
  return fields[19];
}

function startFromPs(pid: number): string | undefined {
  const answer = spawnSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' });
  const [state, ...started] = answer.stdout.trim().split(/\s+/);
  return !state || state.startsWith('Z') ? undefined : started.join(' ');
}

export function isAlive(mark: ProcessMark): boolean {
  return markOf(mark.pid)?.started === mark.started;
}

/** Direct children, for servers of several processes. */
function childrenOf(pid: number): readonly number[] {
  if (existsSync('/proc/self/stat')) {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && statFields(Number(name))?.[1] === String(pid)).map(Number);
  }
  const lines = spawnSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' }).stdout.trim().split('\n');
  return lines.map((line) => line.trim().split(/\s+/).map(Number)).filter(([, parent]) => parent === pid).map(([child]) => child ?? 0);
}

/** Sends a signal to exactly this process; false when it is gone. */
export function signal(mark: ProcessMark, name: NodeJS.Signals): boolean {
  if (!isAlive(mark)) return false;
  try {
    process.kill(mark.pid, name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** The parent first, so that it neither replaces nor reaps a child while the children get theirs. */
export function signalTree(mark: ProcessMark, name: NodeJS.Signals): readonly ProcessMark[] {
  const tree = [mark, ...childrenOf(mark.pid).map(markOf).filter((child) => child !== undefined)];
  for (const member of tree) signal(member, name);
  return tree;
}

/** True when all have ended within the time. */
export async function waitForEnd(marks: readonly ProcessMark[], timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (marks.some(isAlive)) {
    if (Date.now() > deadline) return false;
    await sleep(20);
  }
  return true;
}
