import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { DifyEsError } from '../../core/errors.ts';
import { WITHOUT_TIMEOUTS } from './sql.ts';
import { blockersOf, describeBlockers, namesOf } from './blockers.ts';

/** One setup or teardown at a time per database; the numbers are arbitrary and only have to stay the same. */
const LOCK = [0x64_69_66_79, 0x73_65_74] as const;
const LOOK_EVERY_MS = 1000;
const SAY_EVERY_MS = 10_000;

/**
 * Two connections: `work` does the steps, `watch` says whom it waits for and stops it.
 *
 * The lock is held by `work` itself, so the next setup also waits for the index build that a killed one left running
 * on the server, instead of taking its index for an unfinished leftover.
 */
export interface OpsSession {
  readonly work: pg.Client;
  readonly watch: pg.Client;
  /** Runs a statement of `work` that may wait for others or take long, and names whom it waits for. */
  patiently<T>(what: string, statement: () => Promise<T>): Promise<T>;
  /** A line for the person who is waiting. */
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
  close(): Promise<void>;
}

export interface SessionOptions {
  readonly connect: () => Promise<pg.Client>;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

export async function openSession({ connect, say, signal }: SessionOptions): Promise<OpsSession> {
  const work = await connect();
  const watch = await connect().catch(async (error: unknown) => {
    await work.end().catch(() => undefined);
    throw error;
  });
  const close = async (): Promise<void> => {
    await Promise.allSettled([work.end(), watch.end()]);
  };
  try {
    const pid = (await work.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid;
    const session: OpsSession = { work, watch, say, signal, close, patiently: (what, statement) => patiently({ watch, pid, say, signal }, what, statement) };
    await work.query(WITHOUT_TIMEOUTS);
    // a missing synchronous standby must not hold setup up with its locks; every step looks again, so none can be lost
    await work.query('SET synchronous_commit = local');
    await alone(session);
    return session;
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Asks again and again instead of waiting in pg_advisory_lock: that waits with a snapshot, the CONCURRENTLY build of the
 * one that holds the lock waits for all snapshots, and the deadlock detector ends one of the two.
 */
async function alone({ work, say, signal }: OpsSession): Promise<void> {
  let said = false;
  for (;;) {
    throwIfStopped(signal);
    const { rows } = await work.query<{ mine: boolean; pid: number | null }>(
      `SELECT pg_try_advisory_lock($1, $2) AS mine,
              (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::int8::oid AND objid = $2::int8::oid AND granted LIMIT 1) AS pid`,
      [...LOCK],
    );
    if (rows[0]!.mine) return;
    if (!said) say(`waiting for another setup or teardown (pid ${rows[0]!.pid})`);
    said = true;
    await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Thrown when SIGTERM or SIGINT ended a step; what is half done is finished by the next run. */
export function stopped(): DifyEsError {
  return new DifyEsError('STOPPED', 'stopped before the end');
}

/** Every step asks this first, so that a stop takes effect between two steps. */
export function throwIfStopped(signal: AbortSignal): void {
  if (signal.aborted) throw stopped();
}

type Watching = Pick<OpsSession, 'watch' | 'say' | 'signal'> & { readonly pid: number };

async function patiently<T>({ watch, pid, say, signal }: Watching, what: string, statement: () => Promise<T>): Promise<T> {
  throwIfStopped(signal);
  const ended = new AbortController();
  const cancel = (): void => void watch.query('SELECT pg_cancel_backend($1)', [pid]).catch(() => undefined);
  signal.addEventListener('abort', cancel, { once: true });
  const watching = nameBlockers({ watch, pid, say, signal: ended.signal }, what);
  try {
    return await statement();
  } catch (error) {
    if (signal.aborted) throw stopped();
    throw error;
  } finally {
    signal.removeEventListener('abort', cancel);
    ended.abort();
    await watching;
  }
}

/**
 * Says a line when somebody else is waited for, at most every SAY_EVERY_MS since on a busy server it is another one each
 * second, and the progress of an index build every ten seconds.
 */
async function nameBlockers({ watch, pid, say, signal }: Watching, what: string): Promise<void> {
  let before = '';
  let saidMs = -Infinity;
  for (let round = 1; ; round += 1) {
    await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    try {
      const blockers = await blockersOf(watch, pid);
      if (blockers.length === 0) before = '';
      else if (namesOf(blockers) !== before && performance.now() - saidMs >= SAY_EVERY_MS) {
        say(`${what}: waiting for ${describeBlockers(blockers)}`);
        before = namesOf(blockers);
        saidMs = performance.now();
      }
      if (blockers.length === 0 && round % 10 === 0) say(`${what}: ${await buildProgress(watch, pid)}`);
    } catch {
      // the watching connection is a comfort: losing it must not fail the step
      return;
    }
  }
}

async function buildProgress(watch: pg.ClientBase, pid: number): Promise<string> {
  const { rows } = await watch.query<{ phase: string; share: number | null }>(
    `SELECT phase, round(100.0 * greatest(blocks_done::numeric / nullif(blocks_total, 0), tuples_done::numeric / nullif(tuples_total, 0)))::int AS share
       FROM pg_stat_progress_create_index WHERE pid = $1`,
    [pid],
  );
  const row = rows[0];
  return row ? `${row.phase}${row.share === null ? '' : ` ${row.share} %`}` : 'working';
}
