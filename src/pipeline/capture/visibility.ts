import { setTimeout as sleep } from 'node:timers/promises';
import { DifyEsError } from '../../core/errors.ts';
import { query, type Queryable } from './pg-connection.ts';

/**
 * How many of these transactions the server's sessions cannot see. The log carries 32 bits of an xid; the full number
 * is the one within 2^31 of the snapshot's xmax (2^32 = 4294967296, and 6442450944 = 2^32 + 2^31 keeps the remainder
 * positive).
 */
const HIDDEN = `
  SELECT count(*)::int AS hidden
  FROM (SELECT pg_current_snapshot() AS snapshot) AS now
  CROSS JOIN LATERAL (SELECT pg_snapshot_xmax(snapshot)::text::bigint AS xmax) AS top
  CROSS JOIN unnest($1::bigint[]) AS logged(xid)
  WHERE NOT pg_visible_in_snapshot((xmax + (xid - xmax % 4294967296 + 6442450944) % 4294967296 - 2147483648)::text::xid8, snapshot)`;

export async function countHidden(db: Queryable, xids: readonly number[]): Promise<number> {
  const [row] = await query<{ hidden: number }>(db, HIDDEN, [xids]);
  return row?.hidden ?? 0;
}

export interface VisibilityOptions {
  readonly timeoutMs: number;
  /** Ends the wait with the signal's reason. */
  readonly signal?: AbortSignal;
}

const SHORTEST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 100;

/**
 * Returns when other sessions see all of these transactions.
 *
 * A walsender delivers a commit as soon as its record is flushed, but the transaction becomes visible only when it
 * leaves the list of running ones: a moment later, or much later where it waits for a synchronous standby. Published
 * before that, a re-read or a TOAST fill would still find the row as it was. Throws PG_NOT_VISIBLE after `timeoutMs`.
 */
export async function waitUntilVisible(db: Queryable, xids: readonly number[], options: VisibilityOptions): Promise<void> {
  const distinct = [...new Set(xids)];
  const deadline = performance.now() + options.timeoutMs;
  for (let pauseMs = SHORTEST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    const hidden = await countHidden(db, distinct);
    if (hidden === 0) return;
    if (performance.now() >= deadline) {
      throw new DifyEsError('PG_NOT_VISIBLE', `${hidden} of ${distinct.length} committed transactions are still not visible to other sessions after ${Math.round(options.timeoutMs / 1000)} s`);
    }
    await sleep(pauseMs, undefined, options.signal ? { signal: options.signal } : {});
  }
}
