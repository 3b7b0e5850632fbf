import { TABLES, type RowShape, type TableName } from '../../core/contracts.ts';
import { query, type Queryable } from '../../pipeline/capture/pg-connection.ts';

/** What can go wrong with the source while nobody looks: read every few seconds, so one cheap query each. */
export interface WatchedTable {
  readonly shape: RowShape;
  readonly published: boolean;
  /** False: the index of the replica identity is gone or unusable, and every UPDATE and DELETE of Dify fails. */
  readonly identityUsable: boolean;
}

const WATCHED = `
  SELECT c.relname AS table,
         (SELECT jsonb_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS columns,
         EXISTS (SELECT 1 FROM pg_publication_tables t WHERE t.pubname = $2 AND t.schemaname = n.nspname AND t.tablename = c.relname) AS published,
         c.relreplident <> 'i' OR EXISTS (
           SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indisready AND i.indislive) AS identity_usable
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = $1 AND c.relname = ANY ($3) AND c.relkind = 'r'`;

interface WatchedRow {
  readonly table: TableName;
  readonly columns: string[] | null;
  readonly published: boolean;
  readonly identity_usable: boolean;
}

/** Those of Dify's tables that exist now. Errors are DifyEsErrors. */
export async function readWatchedTables(db: Queryable, schema: string, publication: string): Promise<WatchedTable[]> {
  const rows = await query<WatchedRow>(db, WATCHED, [schema, publication, TABLES]);
  return rows.map(({ table, columns, published, identity_usable }) => ({ shape: { table, columns: columns ?? [] }, published, identityUsable: identity_usable }));
}

export interface RetainedWal {
  readonly retainedBytes: number;
  /** max_slot_wal_keep_size; null: unlimited. */
  readonly serverBytes: number | null;
}

/** What the slot holds back now; null when there is no such slot, or when it is lost and holds nothing any more. */
export async function readRetainedWal(db: Queryable, slot: string): Promise<RetainedWal | null> {
  const [row] = await query<{ retained: number | null; server: number | null }>(
    db,
    `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8 AS retained,
            (SELECT nullif(setting::bigint, -1) * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size')::float8 AS server
       FROM pg_replication_slots WHERE slot_name = $1`,
    [slot],
  );
  return row && row.retained !== null ? { retainedBytes: row.retained, serverBytes: row.server } : null;
}
