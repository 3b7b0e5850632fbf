import { TABLES, type TableName } from '../../core/contracts.ts';
import { query, type Queryable } from '../../pipeline/capture/pg-connection.ts';
import { IDENTITY_COLUMNS, identityIndexName } from './names.ts';

/** An index as the catalogue has it. `usable`: valid, ready and unique, so that PostgreSQL can find a row by it. */
export interface IndexState {
  readonly name: string;
  readonly usable: boolean;
  /** Holds id, tenant_id and created_at, so that a deleted row's document can be found. */
  readonly covers: boolean;
  readonly comment: string | null;
}

/** `index-gone`: the table says USING INDEX and that index was dropped; UPDATE and DELETE fail once it is published. */
export type IdentityState =
  | { readonly kind: 'default' | 'nothing' | 'full' | 'index-gone' }
  | { readonly kind: 'index'; readonly index: IndexState };

export interface TableState {
  readonly table: TableName;
  readonly oid: number;
  /** pg_class.relkind: r is an ordinary table, p a partitioned one, v and m views. */
  readonly relkind: string;
  readonly unlogged: boolean;
  readonly hasPrimaryKey: boolean;
  /** Columns of the identity index that are missing, or that may be NULL (an identity index may not hold those). */
  readonly missing: readonly string[];
  readonly nullable: readonly string[];
  readonly owned: boolean;
  readonly selectable: boolean;
  readonly identity: IdentityState;
  /** The index of our name, whether it is the identity or not. */
  readonly ownIndex: IndexState | null;
}

export interface PublicationState {
  readonly comment: string | null;
  readonly owned: boolean;
  readonly allTables: boolean;
  readonly everyOperation: boolean;
  /** Dify's tables in it, whole or `limited` by a row filter or a column list. */
  readonly tables: ReadonlyMap<TableName, { readonly limited: boolean }>;
  /** Tables of somebody else in it, as schema.name. */
  readonly foreign: readonly string[];
}

interface TableRow extends Omit<TableState, 'identity' | 'ownIndex' | 'table' | 'nullable' | 'missing'> {
  readonly table: TableName;
  readonly relreplident: 'd' | 'n' | 'f' | 'i';
  readonly not_null: Readonly<Record<string, boolean>> | null;
  readonly indexes: readonly (IndexState & { readonly identity: boolean })[] | null;
}

const TABLE_QUERY = `
  SELECT c.relname AS table, c.oid::int8::text AS oid_text, c.relkind, c.relreplident, c.relpersistence = 'u' AS unlogged,
         EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS "hasPrimaryKey",
         pg_has_role(c.relowner, 'USAGE') AS owned,
         has_table_privilege(c.oid, 'SELECT') AS selectable,
         (SELECT jsonb_object_agg(a.attname, a.attnotnull) FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attname = ANY ($3) AND a.attnum > 0 AND NOT a.attisdropped) AS not_null,
         (SELECT jsonb_agg(jsonb_build_object(
             'name', x.relname,
             'identity', i.indisreplident,
             'usable', i.indisvalid AND i.indisready AND i.indislive AND i.indisunique AND i.indimmediate AND i.indpred IS NULL,
             'covers', (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = ANY ($3)
                           AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])) = cardinality($3),
             'comment', obj_description(i.indexrelid, 'pg_class')))
            FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
           WHERE i.indrelid = c.oid AND (i.indisreplident OR x.relname = 'dify_es_identity_' || c.relname)) AS indexes
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = $1 AND c.relname = ANY ($2)`;

/** The state of those of Dify's tables that this release has, in the order of TABLES. */
export async function readTables(db: Queryable, schema: string): Promise<TableState[]> {
  const rows = await query<TableRow & { oid_text: string }>(db, TABLE_QUERY, [schema, TABLES, IDENTITY_COLUMNS]);
  return rows
    .map(({ oid_text, relreplident, not_null, indexes, ...row }): TableState => {
      const present = not_null ?? {};
      const found = indexes ?? [];
      const used = found.find(({ identity }) => identity);
      return {
        ...row,
        oid: Number(oid_text),
        missing: IDENTITY_COLUMNS.filter((column) => !(column in present)),
        nullable: IDENTITY_COLUMNS.filter((column) => present[column] === false),
        identity: identityOf(relreplident, used),
        ownIndex: found.find((index) => index.name === identityIndexName(row.table)) ?? null,
      };
    })
    .sort((a, b) => TABLES.indexOf(a.table) - TABLES.indexOf(b.table));
}

function identityOf(relreplident: TableRow['relreplident'], index: IndexState | undefined): IdentityState {
  switch (relreplident) {
    case 'd':
      return { kind: 'default' };
    case 'n':
      return { kind: 'nothing' };
    case 'f':
      return { kind: 'full' };
    case 'i':
      return index ? { kind: 'index', index } : { kind: 'index-gone' };
    default:
      return relreplident satisfies never;
  }
}

interface PublicationRow {
  readonly comment: string | null;
  readonly owned: boolean;
  readonly allTables: boolean;
  readonly everyOperation: boolean;
  readonly tables: readonly { schema: string; name: string; limited: boolean }[] | null;
}

/** The publication of that name, or null. */
export async function readPublication(db: Queryable, publication: string, schema: string): Promise<PublicationState | null> {
  // attnames and rowfilter came with PostgreSQL 15; to_jsonb reads them where they are. Without a column list,
  // attnames names every column that is not generated.
  const [row] = await query<PublicationRow>(
    db,
    `SELECT obj_description(p.oid, 'pg_publication') AS comment, pg_has_role(p.pubowner, 'USAGE') AS owned, p.puballtables AS "allTables",
            p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AS "everyOperation",
            (SELECT jsonb_agg(jsonb_build_object('schema', t.schemaname, 'name', t.tablename, 'limited',
                coalesce(to_jsonb(t) ->> 'rowfilter', '') <> '' OR EXISTS (
                  SELECT 1 FROM pg_attribute a
                   WHERE a.attrelid = format('%I.%I', t.schemaname, t.tablename)::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                     AND to_jsonb(t) ? 'attnames' AND NOT (to_jsonb(t) -> 'attnames') ? a.attname::text)))
               FROM pg_publication_tables t WHERE t.pubname = p.pubname) AS tables
       FROM pg_publication p WHERE p.pubname = $1`,
    [publication],
  );
  if (!row) return null;
  const listed = row.tables ?? [];
  const ours = listed.filter((t) => t.schema === schema && (TABLES as readonly string[]).includes(t.name));
  return {
    comment: row.comment,
    owned: row.owned,
    allTables: row.allTables,
    everyOperation: row.everyOperation,
    tables: new Map(ours.map((t) => [t.name as TableName, { limited: t.limited }])),
    foreign: row.allTables ? [] : listed.filter((t) => !ours.includes(t)).map((t) => `${t.schema}.${t.name}`),
  };
}

/** Other publications with a table of ours, and their comments: another installation may need the same identity. */
export function publicationsOf(db: Queryable, schema: string, table: TableName): Promise<{ name: string; comment: string | null }[]> {
  return query<{ name: string; comment: string | null }>(
    db,
    `SELECT p.pubname AS name, obj_description(p.oid, 'pg_publication') AS comment
       FROM pg_publication_tables t JOIN pg_publication p USING (pubname) WHERE t.schemaname = $1 AND t.tablename = $2`,
    [schema, table],
  );
}
