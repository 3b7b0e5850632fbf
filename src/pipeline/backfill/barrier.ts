import { setTimeout as sleep } from 'node:timers/promises';
import { DifyEsError } from '../../core/errors.ts';
import { type Lsn, parseLsn } from '../../core/lsn.ts';
import type { ReadSession } from './read-session.ts';

/** What still holds the barrier: named so that a person can end it, without a word of its query. */
export interface Blocker {
  readonly pid: number | null;
  /** The application's name; for a prepared transaction its gid, which ROLLBACK PREPARED wants. */
  readonly name: string;
  readonly state: string;
  readonly ageSeconds: number;
}

export interface BarrierOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Called about every second while somebody holds it. */
  readonly onBlocked?: (blockers: readonly Blocker[]) => void;
}

const POLL_MS = [5, 10, 20, 50, 100, 200] as const;
const REPORT_MS = 1000;

/**
 * Takes the barrier L: every transaction whose commit record lies below L has ended and is visible to each snapshot
 * taken after this returned; what such a snapshot does not see commits at or above L.
 *
 * Why: L is read first, then an own xid X is taken. Whoever has a commit record below L took its xid before X, so once
 * the oldest xid still in progress is above X they all have ended. X must be a real xid: taken from pg_snapshot_xmax
 * the wait passes while the newest transactions are still open, and their updates are lost.
 *
 * Also waits until the log is on disk up to L. After a crash of the server PostgreSQL would hand out the positions above
 * the flushed ones again, and a change at such a position would lose against rows that carry L - 1.
 */
export async function takeBarrier(session: ReadSession, options: BarrierOptions): Promise<Lsn> {
  const [position] = await session.query('SELECT pg_current_wal_insert_lsn()::text');
  const barrier = parseLsn(String(position?.[0]));
  // In a transaction of its own that has committed: its own xid must not be what the wait waits for. Nothing was
  // written, so no synchronous standby is waited for either. Its commit record is also what flushes the log beyond L.
  const [taken] = await session.query('SELECT pg_current_xact_id()::text');
  const xid = String(taken?.[0]);
  if (!/^\d+$/.test(xid)) throw new DifyEsError('INTERNAL', 'pg_current_xact_id returned no number');

  const deadline = Date.now() + options.timeoutMs;
  let nextReport = Date.now() + REPORT_MS;
  for (let attempt = 0; ; attempt++) {
    const [now] = await session.query(`SELECT pg_snapshot_xmin(pg_current_snapshot()) > '${xid}'::xid8, pg_current_wal_flush_lsn()::text`);
    if (now?.[0] === true && parseLsn(String(now[1])) >= barrier) return barrier;
    options.signal.throwIfAborted();
    if (Date.now() >= deadline) throw blockedError(await findBlockers(session, xid), options.timeoutMs);
    if (options.onBlocked && Date.now() >= nextReport) {
      nextReport = Date.now() + REPORT_MS;
      options.onBlocked(await findBlockers(session, xid));
    }
    await sleep(POLL_MS[Math.min(attempt, POLL_MS.length - 1)], undefined, { signal: options.signal });
  }
}

async function findBlockers(session: ReadSession, xid: string): Promise<readonly Blocker[]> {
  // backend_xid has 32 bits; age() compares it by distance, as the server itself does.
  const rows = await session.query(
    `SELECT pid, coalesce(nullif(application_name, ''), 'an unnamed application'),
       coalesce(state, 'unknown') || CASE WHEN wait_event = 'SyncRep' THEN ', waiting for a synchronous standby' ELSE '' END,
       extract(epoch FROM clock_timestamp() - xact_start)::int AS seconds
     FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND age(backend_xid) >= age('${xid}'::xid8::xid)
     UNION ALL
     SELECT NULL, gid, 'prepared', extract(epoch FROM clock_timestamp() - prepared)::int
     FROM pg_prepared_xacts WHERE age(transaction) >= age('${xid}'::xid8::xid)
     ORDER BY seconds DESC NULLS LAST`,
  );
  return rows.map(([pid, name, state, seconds]) => ({ pid: pid === null ? null : Number(pid), name: String(name), state: String(state), ageSeconds: Number(seconds ?? 0) }));
}

export function describeBlocker(blocker: Blocker): string {
  if (blocker.pid === null) return `prepared transaction '${blocker.name}', ${blocker.ageSeconds} s old`;
  return `pid ${blocker.pid} (${blocker.name}, ${blocker.state}, ${blocker.ageSeconds} s)`;
}

function blockedError(blockers: readonly Blocker[], timeoutMs: number): DifyEsError {
  // pg_stat_activity hides the xid of other roles' sessions from a role without pg_read_all_stats.
  const who = blockers.length > 0 ? blockers.slice(0, 5).map(describeBlocker).join('; ') : 'a transaction that this role may not see (it needs pg_read_all_stats)';
  return new DifyEsError('BARRIER_BLOCKED', `no barrier within ${timeoutMs / 1000} s: held by ${who}`);
}
