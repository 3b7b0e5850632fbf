import type pg from 'pg';

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
  /** Minutes (idle_replication_slot_timeout, PostgreSQL 18); 0: never. */
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

export async function readServerFacts(client: pg.ClientBase): Promise<ServerFacts> {
  return (await client.query<ServerFacts>(FACTS)).rows[0]!;
}

/** A replication slot as pg_replication_slots has it. */
export interface SlotState {
  readonly slot: string;
  readonly plugin: string | null;
  readonly database: string | null;
  readonly temporary: boolean;
  /** The process that reads it now. */
  readonly activePid: number | null;
  /** reserved, extended, unreserved, lost. */
  readonly walStatus: string | null;
  readonly invalidation: string | null;
  readonly confirmedLsn: string | null;
  readonly restartLsn: string | null;
  readonly retainedBytes: number | null;
  /** Bytes until the server may give the slot up; null: no limit. */
  readonly safeBytes: number | null;
}

/** Also on a standby, where the position is the received one. invalidation_reason came with PostgreSQL 17. */
const SLOT = `
  SELECT slot_name AS slot, plugin, database, temporary, active_pid AS "activePid", wal_status AS "walStatus",
         to_jsonb(s) ->> 'invalidation_reason' AS invalidation,
         confirmed_flush_lsn::text AS "confirmedLsn", restart_lsn::text AS "restartLsn",
         pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::float8 AS "retainedBytes",
         safe_wal_size::float8 AS "safeBytes"
    FROM pg_replication_slots s`;

export async function readSlot(client: pg.ClientBase, slot: string): Promise<SlotState | null> {
  return (await client.query<SlotState>(`${SLOT} WHERE slot_name = $1`, [slot])).rows[0] ?? null;
}

/** A slot whose WAL is gone: PostgreSQL never lets it be read again. */
export function isLost(slot: SlotState): boolean {
  return slot.walStatus === 'lost' || slot.invalidation !== null;
}
