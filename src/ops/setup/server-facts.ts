import { query, type Queryable } from '../../pipeline/capture/pg-connection.ts';

/** What the whole server says of itself and of our role; nothing of the tables. */
export interface ServerFacts {
  /** server_version_num: 150018 is 15.18. */
  readonly version: number;
  readonly versionText: string;
  readonly walLevel: string;
  readonly inRecovery: boolean;
  readonly encoding: string;
  readonly synchronousStandbyNames: string;
  readonly maxReplicationSlots: number;
  readonly slotsUsed: number;
  readonly maxWalSenders: number;
  readonly walSendersUsed: number;
  /** Milliseconds; 0: never. */
  readonly walSenderTimeoutMs: number;
  /** Bytes; -1: no limit. */
  readonly maxSlotWalKeepBytes: number;
  /** idle_replication_slot_timeout of PostgreSQL 18, in seconds; 0: never. */
  readonly idleSlotTimeoutSeconds: number;
  readonly preparedTransactions: readonly { readonly gid: string; readonly ageSeconds: number }[];
  readonly role: string;
  readonly superuser: boolean;
  readonly mayReplicate: boolean;
  readonly mayCreatePublication: boolean;
  readonly seesOtherSessions: boolean;
}

/** pg_settings gives every value in its base unit: kB, ms, MB, s, min. */
const FACTS = `
  SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS "versionText",
         current_setting('wal_level') AS "walLevel", pg_is_in_recovery() AS "inRecovery", current_setting('server_encoding') AS encoding,
         current_setting('synchronous_standby_names') AS "synchronousStandbyNames",
         current_setting('max_replication_slots')::int AS "maxReplicationSlots",
         (SELECT count(*) FROM pg_replication_slots)::int AS "slotsUsed",
         current_setting('max_wal_senders')::int AS "maxWalSenders",
         (SELECT count(*) FROM pg_stat_replication)::int AS "walSendersUsed",
         (SELECT setting::int FROM pg_settings WHERE name = 'wal_sender_timeout') AS "walSenderTimeoutMs",
         (SELECT CASE WHEN setting::bigint < 0 THEN -1 ELSE setting::bigint * 1048576 END FROM pg_settings WHERE name = 'max_slot_wal_keep_size')::float8 AS "maxSlotWalKeepBytes",
         coalesce((SELECT setting::int * CASE unit WHEN 'min' THEN 60 ELSE 1 END FROM pg_settings WHERE name = 'idle_replication_slot_timeout'), 0) AS "idleSlotTimeoutSeconds",
         coalesce((SELECT jsonb_agg(jsonb_build_object('gid', gid, 'ageSeconds', extract(epoch FROM clock_timestamp() - prepared)))
                     FROM pg_prepared_xacts WHERE database = current_database()), '[]') AS "preparedTransactions",
         current_user AS role, r.rolsuper AS superuser,
         r.rolsuper OR r.rolreplication OR EXISTS (
           SELECT 1 FROM pg_roles m WHERE m.rolname = 'rds_replication' AND pg_has_role(m.oid, 'USAGE')) AS "mayReplicate",
         has_database_privilege(current_database(), 'CREATE') AS "mayCreatePublication",
         pg_has_role('pg_read_all_stats', 'USAGE') AS "seesOtherSessions"
    FROM pg_roles r WHERE r.rolname = current_user`;

export async function readServerFacts(db: Queryable): Promise<ServerFacts> {
  return (await query<ServerFacts>(db, FACTS))[0]!;
}
