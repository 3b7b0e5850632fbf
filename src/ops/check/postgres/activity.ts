import type { Blocker } from '../../../pipeline/backfill/barrier.ts';
import { query, type Queryable } from '../../../pipeline/capture/pg-connection.ts';
import { describeBlockers } from '../../setup/blockers.ts';
import type { ServerFacts } from '../../setup/server-facts.ts';
import { ok, warn, type Finding } from '../finding.ts';

/** From here on a transaction is worth naming: setup, the slot and the barrier of a backfill wait for its end. */
const LONG_SECONDS = 300;

/** Transactions in this database that are older than LONG_SECONDS; without the text of their queries. */
export function readLongTransactions(db: Queryable): Promise<Blocker[]> {
  return query<Blocker>(
    db,
    `SELECT pid, coalesce(nullif(application_name, ''), backend_type, 'unknown') AS name, coalesce(state, 'unknown') AS state,
            extract(epoch FROM clock_timestamp() - xact_start)::int AS "ageSeconds"
       FROM pg_stat_activity
      WHERE datname = current_database() AND xact_start < clock_timestamp() - make_interval(secs => $1) AND backend_type = 'client backend'
      ORDER BY xact_start`,
    [LONG_SECONDS],
  );
}

export function activityFindings(long: readonly Blocker[], { preparedTransactions }: ServerFacts): Finding[] {
  const prepared = preparedTransactions.map(({ gid, ageSeconds }): Blocker => ({ pid: null, name: gid, state: 'prepared', ageSeconds: Math.round(ageSeconds) }));
  return [
    long.length === 0 ? ok('long transactions', `none above ${LONG_SECONDS / 60} min`) : warn('long transactions', describeBlockers(long), 'setup and migrate wait for them: end those that are forgotten.'),
    prepared.length === 0 ? ok('prepared transactions', 'none') : warn('prepared transactions', describeBlockers(prepared), 'The slot and the barrier wait for them: COMMIT PREPARED or ROLLBACK PREPARED.'),
  ];
}
