import { setTimeout as sleep } from 'node:timers/promises';
import { DifyEsError } from '../../core/errors.ts';
import type { Blocker } from '../../pipeline/backfill/barrier.ts';
import { describeBlockers, holdersOf, namesOf } from './blockers.ts';
import { stopped, type OpsSession } from './session.ts';
import { isRetriableLock } from './sql-state.ts';

const PAUSE_MS = 1500;
const LOOK_AGAIN_MS = 500;

/**
 * Whether to queue for a lock that shuts everybody out, which makes Dify's statements wait behind us for up to
 * LOCK_TIMEOUT_MS.
 *
 * Not behind a transaction that has run for half a second or more (ages are whole seconds, rounded): it will hardly end
 * in the next moment, and Dify would stand still for nothing. Only every ten seconds is one of up to a minute tried all the same, since on a busy server
 * there may always be one that is a few seconds old.
 */
export function mayQueue(holders: readonly Blocker[], sinceLastTryMs: number): boolean {
  const oldest = Math.max(0, ...holders.map((holder) => holder.ageSeconds));
  if (holders.some((holder) => holder.pid === null)) return false;
  return oldest < 1 || (oldest <= 60 && sinceLastTryMs >= 10_000);
}

export interface ShortLock {
  readonly what: string;
  /** oid of the table whose lock is needed. */
  readonly table: number;
  /** A whole transaction with its own lock_timeout, sent in one round trip. */
  readonly statements: readonly string[];
  readonly waitMs: number;
}

/** Runs the statement as soon as its lock can be had within a moment; SETUP_BLOCKED names who held it for `waitMs`. */
export async function withShortLock({ work, watch, say, signal, patiently }: OpsSession, { what, table, statements, waitMs }: ShortLock): Promise<void> {
  const deadline = Date.now() + waitMs;
  let lastTry = Date.now();
  let said = '';
  for (;;) {
    if (signal.aborted) throw stopped();
    const holders = await holdersOf(watch, table);
    if (mayQueue(holders, Date.now() - lastTry)) {
      lastTry = Date.now();
      if (await tried(() => patiently(what, () => work.query(statements.join('; '))), () => work.query('ROLLBACK'))) return;
      await sleep(PAUSE_MS, undefined, { signal }).catch(() => undefined);
    } else {
      if (namesOf(holders) !== said) say(`${what}: waiting for ${describeBlockers(holders)}, without queueing behind it`);
      said = namesOf(holders);
      await sleep(LOOK_AGAIN_MS, undefined, { signal }).catch(() => undefined);
    }
    if (Date.now() > deadline) {
      throw new DifyEsError('SETUP_BLOCKED', `${what}: the lock could not be had for ${Math.round(waitMs / 1000)} s${holders.length > 0 ? `; it is held by ${describeBlockers(holders)}` : ''}`);
    }
  }
}

async function tried(statement: () => Promise<unknown>, rollback: () => Promise<unknown>): Promise<boolean> {
  try {
    await statement();
    return true;
  } catch (error) {
    await rollback();
    if (isRetriableLock(error)) return false;
    throw error;
  }
}
