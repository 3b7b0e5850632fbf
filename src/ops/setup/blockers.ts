import type pg from 'pg';

/** Somebody who is waited for. Never with the text of a query: it holds values. */
export interface Blocker {
  /** 0: a prepared transaction, which has no process. */
  readonly pid: number;
  readonly application: string;
  readonly state: string;
  /** Seconds since its transaction began; null where the role may not see it (pg_read_all_stats). */
  readonly ageSeconds: number | null;
  /** The prepared transaction's name. */
  readonly gid: string | null;
}

/**
 * Whom the backend `pid` waits for: for a lock, or for the end of a transaction (a CONCURRENTLY build, a slot being
 * created). Prepared transactions show as pid 0 in pg_blocking_pids.
 */
export async function blockersOf(client: pg.ClientBase, pid: number): Promise<Blocker[]> {
  const { rows } = await client.query<Blocker>(
    `SELECT DISTINCT b.pid, coalesce(nullif(a.application_name, ''), a.backend_type, '') AS application, coalesce(a.state, '') AS state,
            extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS "ageSeconds", NULL::text AS gid
       FROM unnest(pg_blocking_pids($1)) AS b(pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid WHERE b.pid <> 0
     UNION ALL
     SELECT 0, '', 'prepared', extract(epoch FROM clock_timestamp() - p.prepared)::float8, p.gid
       FROM pg_prepared_xacts p WHERE 0 = ANY (pg_blocking_pids($1)) AND p.database = current_database()
     ORDER BY 4 DESC NULLS LAST`,
    [pid],
  );
  return rows;
}

/**
 * Who holds any lock on the table now, the oldest transaction first. Autovacuum is left out: it yields. With
 * ACCESS EXCLUSIVE in the queue behind one of these, every new SELECT of Dify waits too.
 */
export async function holdersOf(client: pg.ClientBase, table: number): Promise<Blocker[]> {
  const { rows } = await client.query<Blocker>(
    `SELECT DISTINCT coalesce(l.pid, 0) AS pid, coalesce(nullif(a.application_name, ''), a.backend_type, '') AS application,
            coalesce(a.state, CASE WHEN l.pid IS NULL THEN 'prepared' END, '') AS state,
            extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 AS "ageSeconds", p.gid::text AS gid
       FROM pg_locks l
       LEFT JOIN pg_stat_activity a ON a.pid = l.pid
       LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND l.virtualtransaction = '-1/' || p.transaction
      WHERE l.locktype = 'relation' AND l.relation = $1::int8::oid AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.pid IS DISTINCT FROM pg_backend_pid() AND coalesce(a.backend_type, '') <> 'autovacuum worker'
      ORDER BY 4 DESC NULLS LAST`,
    [table],
  );
  return rows;
}

/** `pid 4711 (celery, idle in transaction, for 2 h 5 min)`; for a person who is to end it. */
export function describeBlocker({ pid, application, state, ageSeconds, gid }: Blocker): string {
  if (pid === 0) return `the prepared transaction ${JSON.stringify(gid ?? '?')}${ageSeconds === null ? '' : ` (for ${describeAge(ageSeconds)})`}`;
  const facts = [application, state, ageSeconds === null ? '' : `for ${describeAge(ageSeconds)}`].filter(Boolean);
  return `pid ${pid}${facts.length > 0 ? ` (${facts.join(', ')})` : ''}`;
}

export function describeBlockers(blockers: readonly Blocker[]): string {
  const shown = blockers.slice(0, 5).map(describeBlocker);
  if (blockers.length > shown.length) shown.push(`and ${blockers.length - shown.length} more`);
  return shown.join(', ');
}

/** `3 s`, `12 min`, `2 h 5 min`, `4 days`. */
export function describeAge(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}
