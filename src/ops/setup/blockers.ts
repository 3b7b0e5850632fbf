import { describeBlocker, type Blocker } from '../../pipeline/backfill/barrier.ts';
import { query, type Queryable } from '../../pipeline/capture/pg-connection.ts';

/**
 * Whom the backend `pid` waits for: for a lock, or for the end of a transaction (a CONCURRENTLY build, a slot being
 * created). Prepared transactions are pid 0 in pg_blocking_pids. Never with the text of a query: it holds values.
 */
export function blockersOf(db: Queryable, pid: number): Promise<Blocker[]> {
  return query<Blocker>(
    db,
    `SELECT DISTINCT b.pid, coalesce(nullif(a.application_name, ''), a.backend_type, 'unknown') AS name, coalesce(a.state, 'unknown') AS state,
            coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::int AS "ageSeconds"
       FROM unnest(pg_blocking_pids($1)) AS b(pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid WHERE b.pid <> 0
     UNION ALL
     SELECT NULL, p.gid, 'prepared', extract(epoch FROM clock_timestamp() - p.prepared)::int
       FROM pg_prepared_xacts p WHERE 0 = ANY (pg_blocking_pids($1)) AND p.database = current_database()
     ORDER BY 4 DESC`,
    [pid],
  );
}

/**
 * Who holds any lock on the table now, the oldest transaction first. Autovacuum is left out: it yields. With
 * ACCESS EXCLUSIVE in the queue behind one of these, every new SELECT of Dify waits too.
 */
export function holdersOf(db: Queryable, table: number): Promise<Blocker[]> {
  return query<Blocker>(
    db,
    `SELECT DISTINCT l.pid, coalesce(nullif(a.application_name, ''), p.gid, a.backend_type, 'unknown') AS name,
            coalesce(a.state, CASE WHEN l.pid IS NULL THEN 'prepared' END, 'unknown') AS state,
            coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared)), 0)::int AS "ageSeconds"
       FROM pg_locks l
       LEFT JOIN pg_stat_activity a ON a.pid = l.pid
       LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND l.virtualtransaction = '-1/' || p.transaction
      WHERE l.locktype = 'relation' AND l.relation = $1::int8::oid AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.pid IS DISTINCT FROM pg_backend_pid() AND coalesce(a.backend_type, '') <> 'autovacuum worker'
      ORDER BY 4 DESC`,
    [table],
  );
}

export function describeBlockers(blockers: readonly Blocker[]): string {
  const shown = blockers.slice(0, 5).map(describeBlocker);
  if (blockers.length > shown.length) shown.push(`and ${blockers.length - shown.length} more`);
  return shown.join(', ');
}

/** What tells two sets of blockers apart, so that a line is said once and not every second. */
export function namesOf(blockers: readonly Blocker[]): string {
  return blockers.map(({ pid, name }) => pid ?? name).join();
}
