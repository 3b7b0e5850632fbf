import { DifyEsError } from '../../core/errors.ts';
import { parseLsn, type Lsn } from '../../core/lsn.ts';
import { query, type Queryable } from './pg-connection.ts';

/** https://www.postgresql.org/docs/18/view-pg-replication-slots.html */
export interface SlotState {
  readonly name: string;
  readonly plugin: string;
  readonly database: string | null;
  /** The walsender that reads it, or null. */
  readonly activePid: number | null;
  /** The oldest WAL it holds back; null once it is lost. */
  readonly restartLsn: Lsn | null;
  /** Commits that end at or below this do not come again. */
  readonly confirmedFlushLsn: Lsn | null;
  /** `lost`: unusable. `unreserved`: WAL may be removed at the next checkpoint. */
  readonly walStatus: 'reserved' | 'extended' | 'unreserved' | 'lost' | null;
  /** Bytes of WAL until it may be lost; null where max_slot_wal_keep_size is unlimited. */
  readonly safeWalSize: bigint | null;
  /** Why it was invalidated (PostgreSQL 17 and later), or null. */
  readonly invalidation: string | null;
  /** Synchronised to standbys (PostgreSQL 17 and later). */
  readonly failover: boolean;
}

/** Columns differ between versions, so the younger ones are read out of the row's JSON. */
const INSPECT = `
  SELECT slot_name, plugin, database, active_pid, restart_lsn::text, confirmed_flush_lsn::text, wal_status, safe_wal_size::text,
         to_jsonb(s) ->> 'invalidation_reason' AS invalidation_reason, coalesce((to_jsonb(s) ->> 'failover')::boolean, false) AS failover
  FROM pg_replication_slots AS s WHERE slot_name = $1`;

interface SlotRow {
  slot_name: string;
  plugin: string | null;
  database: string | null;
  active_pid: number | null;
  restart_lsn: string | null;
  confirmed_flush_lsn: string | null;
  wal_status: SlotState['walStatus'];
  safe_wal_size: string | null;
  invalidation_reason: string | null;
  failover: boolean;
}

/** Undefined: there is no slot of that name. */
export async function inspectSlot(db: Queryable, name: string): Promise<SlotState | undefined> {
  const [row] = await query<SlotRow>(db, INSPECT, [name]);
  if (!row) return undefined;
  return {
    name: row.slot_name,
    plugin: row.plugin ?? 'physical',
    database: row.database,
    activePid: row.active_pid,
    restartLsn: row.restart_lsn === null ? null : parseLsn(row.restart_lsn),
    confirmedFlushLsn: row.confirmed_flush_lsn === null ? null : parseLsn(row.confirmed_flush_lsn),
    walStatus: row.wal_status,
    safeWalSize: row.safe_wal_size === null ? null : BigInt(row.safe_wal_size),
    invalidation: row.invalidation_reason,
    failover: row.failover,
  };
}

/**
 * Creates the slot and returns where it begins: commits above that come. It waits for every transaction that is open
 * now to end, without a lock that anybody would notice. On PostgreSQL 17 and later it is marked for synchronisation to
 * standbys, which costs nothing where there are none.
 */
export async function createSlot(db: Queryable, name: string): Promise<Lsn> {
  const [server] = await query<{ version: number }>(db, `SELECT current_setting('server_version_num')::int AS version`);
  const failover = (server?.version ?? 0) >= 170_000 ? ', failover => true' : '';
  const [row] = await query<{ lsn: string }>(db, `SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput'${failover})`, [name]);
  return parseLsn(row!.lsn);
}

/** Nothing happens when there is none. Throws PG_SLOT_BUSY while somebody reads it. */
export async function dropSlot(db: Queryable, name: string): Promise<void> {
  await query(db, 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1', [name]);
}

/** Returns the slot when a reader can start from it, else throws the code whose cure helps. */
export function usableSlot(slot: SlotState | undefined, name: string): SlotState & { readonly confirmedFlushLsn: Lsn } {
  if (!slot) throw new DifyEsError('PG_SLOT_MISSING', `there is no replication slot "${name}"`);
  if (slot.plugin !== 'pgoutput') throw new DifyEsError('CONFIG_INVALID', `the replication slot "${name}" belongs to somebody else: its plugin is ${slot.plugin}`);
  if (slot.walStatus === 'lost' || slot.invalidation !== null || slot.confirmedFlushLsn === null) {
    throw new DifyEsError('PG_SLOT_LOST', `the replication slot "${name}" is lost${slot.invalidation === null ? '' : `: ${slot.invalidation}`}`);
  }
  return { ...slot, confirmedFlushLsn: slot.confirmedFlushLsn };
}

/**
 * Throws PG_PUBLICATION_MISSING. PostgreSQL 18 only warns of a missing publication and goes on without its changes: a
 * reader that did not look would confirm them away.
 */
export async function requirePublication(db: Queryable, name: string): Promise<void> {
  const found = await query(db, 'SELECT 1 FROM pg_publication WHERE pubname = $1', [name]);
  if (found.length === 0) throw new DifyEsError('PG_PUBLICATION_MISSING', `there is no publication "${name}"`);
}
