import { query, type Queryable } from '../../pipeline/capture/pg-connection.ts';

/** How the source fares, by figures that cost it one short look at its shared memory. Null: it is not known. */
export interface SourceLoad {
  /** WAL that the reader has not confirmed: what the backfill and it compete for is not enough for both. */
  readonly slotLagBytes: number | null;
  /** Of the physical standby that is furthest behind in replaying; null without one. Seconds are the server's estimate, and null while it has none. */
  readonly standbyLagBytes: number | null;
  readonly standbyLagSeconds: number | null;
  readonly standby: string | null;
  /** Sessions of others that wait for a lock, a buffer or the disk in the middle of a statement. */
  readonly waiting: number | null;
}

export interface LoadLimits {
  /** Of the reader and of a standby. 0: no limit. */
  readonly lagBytes: number;
  readonly standbyLagSeconds: number;
  readonly waiting: number;
}

/** `why`: for a person, with the figure and its limit; null when the backfill may read. */
export interface LoadVerdict {
  readonly why: string | null;
}

/** While it brakes it goes on only well below the limit, or it would start and stop from look to look. */
const RELEASE = 0.7;

/** Pure. `braking`: what the last look said. */
export function judgeLoad(load: SourceLoad, limits: LoadLimits, braking: boolean): LoadVerdict {
  const over = (value: number | null, limit: number): value is number => value !== null && limit > 0 && value > limit * (braking ? RELEASE : 1);
  if (over(load.slotLagBytes, limits.lagBytes)) return { why: `the reader is ${megabytes(load.slotLagBytes)} MB of WAL behind (MIGRATE_MAX_LAG ${megabytes(limits.lagBytes)} MB)` };
  if (over(load.standbyLagBytes, limits.lagBytes)) return { why: `the standby ${load.standby} is ${megabytes(load.standbyLagBytes)} MB of WAL behind (MIGRATE_MAX_LAG ${megabytes(limits.lagBytes)} MB)` };
  if (over(load.standbyLagSeconds, limits.standbyLagSeconds)) return { why: `the standby ${load.standby} is ${Math.round(load.standbyLagSeconds)} s behind (MIGRATE_MAX_STANDBY_LAG ${limits.standbyLagSeconds} s)` };
  if (over(load.waiting, limits.waiting)) return { why: `${load.waiting} sessions of others wait in the middle of a statement (MIGRATE_MAX_WAITING ${limits.waiting})` };
  return { why: null };
}

const megabytes = (bytes: number): number => Math.round(bytes / 1_048_576);

/*
 * What a role without pg_read_all_stats may not see comes as NULL, and counts as unknown or as no waiter; `setup
 * --print-sql` grants it. A logical walsender is a row of pg_stat_replication too: ours is measured by its slot.
 *
 * Not asked for: checkpoints and dirty buffers, since a backfill writes nothing but hint bits; the load of the machine,
 * which PostgreSQL does not tell; long transactions, which a backfill neither causes nor suffers from.
 */
const LOAD = `
  SELECT (SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), confirmed_flush_lsn) FROM pg_replication_slots WHERE slot_name = $1)::float8 AS slot_lag,
         s.name AS standby, s.behind AS standby_behind, s.lag AS standby_lag,
         (SELECT count(*) FROM pg_stat_activity
           WHERE backend_type = 'client backend' AND state = 'active' AND datname = current_database() AND application_name NOT LIKE 'dify-es%'
             AND wait_event_type IN ('Lock', 'LWLock', 'BufferPin', 'IO'))::int AS waiting
    FROM (VALUES (1)) AS one
    LEFT JOIN LATERAL (
      SELECT coalesce(nullif(application_name, ''), 'without a name') AS name, extract(epoch FROM replay_lag)::float8 AS lag,
             pg_wal_lsn_diff(pg_current_wal_insert_lsn(), replay_lsn)::float8 AS behind
        FROM pg_stat_replication r
       WHERE state IN ('streaming', 'catchup') AND NOT EXISTS (SELECT 1 FROM pg_replication_slots l WHERE l.active_pid = r.pid AND l.slot_type = 'logical')
       ORDER BY behind DESC NULLS LAST LIMIT 1) AS s ON true`;

interface LoadRow {
  readonly slot_lag: number | null;
  readonly standby: string | null;
  readonly standby_behind: number | null;
  readonly standby_lag: number | null;
  readonly waiting: number;
}

/** Errors are DifyEsErrors. */
export async function readLoad(db: Queryable, slot: string): Promise<SourceLoad> {
  const [row] = await query<LoadRow>(db, LOAD, [slot]);
  return { slotLagBytes: row?.slot_lag ?? null, standby: row?.standby ?? null, standbyLagBytes: row?.standby_behind ?? null, standbyLagSeconds: row?.standby_lag ?? null, waiting: row?.waiting ?? null };
}
