import type { RowShape, TableName } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import type { ReadSession } from './read-session.ts';
import { rangeSql, type TidRange } from './tid.ts';

/**
 * What identifies the physical table and its columns at one moment. Neither part ever comes back to an earlier value:
 * relfilenodes are taken from a counter, and relnatts, which is part of `columns`, counts dropped columns too. So equal
 * stamps before and after a statement prove that the statement read that table with those columns.
 */
export interface TableStamp {
  readonly relfilenode: string;
  readonly columns: string;
}

/** A table to read: its stamp, and how its rows are asked for. */
export interface TableSource {
  readonly table: TableName;
  readonly shape: RowShape;
  readonly stamp: TableStamp;
  /** Quoted, with its schema. */
  readonly name: string;
  /** ctid, xmin, then each column as text. */
  readonly selectList: string;
  /** Cells of a row that make its key, by position in `shape.columns`. */
  readonly idAt: number;
  readonly tenantAt: number;
  readonly createdAt: number;
  /** The type of id, for an array of ids that the primary key's index can take. */
  readonly idType: string;
}

/** Sizes for planning; `bytes` counts TOAST too, without indexes. */
export interface TableSize {
  readonly blocks: number;
  readonly bytes: number;
  readonly blockSize: number;
}

const quote = (identifier: string): string => `"${identifier.replaceAll('"', '""')}"`;

export const qualifiedName = (schema: string, table: TableName): string => `${quote(schema)}.${quote(table)}`;

/** As an SQL literal. Schema and table names only: they are the configuration's and this program's own. */
const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/**
 * One row: relfilenode and columns of what bears the name now, nulls where nothing does. The columns are read under the
 * statement's snapshot; in a statement that reads the table itself no ALTER TABLE can come between (AccessShareLock is
 * taken before the snapshot).
 */
export function stampSql(name: string): string {
  const table = `to_regclass(${literal(name)})`;
  return `pg_relation_filenode(${table})::text,
    (SELECT c.relnatts || ':' || string_agg(a.attname || ' ' || a.atttypid, ',' ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE c.oid = ${table} AND a.attnum > 0 AND NOT a.attisdropped GROUP BY c.relnatts)`;
}

/** What has another stamp is another table: it was rewritten, truncated, altered, or dropped and made again. */
export function sameStamp(a: TableStamp, b: TableStamp): boolean {
  return a.relfilenode === b.relfilenode && a.columns === b.columns;
}

/**
 * The column as the very text that pgoutput sends, its type's output function, so that backfill and stream write the
 * same bytes. `::text` is that function unless pg_cast holds a cast of the type to text of its own: boolean gives
 * `true` instead of `t`, character(n) loses its blanks, inet gains a mask. concat() calls the output function for any
 * type (varlena.c, concat_internal), but makes '' of NULL.
 */
function textOf(column: string, hasOwnCast: boolean): string {
  const name = quote(column);
  return hasOwnCast ? `CASE WHEN num_nulls(${name}) = 0 THEN concat(${name}) END` : `${name}::text`;
}

/** Undefined when no such table exists: an older Dify release lacks the offload table. */
export async function describeTable(session: Pick<ReadSession, 'query'>, schema: string, table: TableName): Promise<{ source: TableSource; size: TableSize } | undefined> {
  const name = qualifiedName(schema, table);
  // The stamp before the sizes: both are of the moment in which they are asked for, and the sizes wait for a lock. The
  // other way round a rewrite in between would leave the new table's stamp with the old one's pages.
  const [found] = await session.query(
    `SELECT c.relkind, c.relpersistence, EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid), ${stampSql(name)},
       pg_relation_size(c.oid)::text, pg_table_size(c.oid)::text, current_setting('block_size')
     FROM pg_class c WHERE c.oid = to_regclass(${literal(name)})`,
  );
  if (!found) return undefined;
  const [kind, persistence, hasChildren, relfilenode, columns, heapBytes, bytes, blockSize] = found;
  // A view has no ctid, a partition's ctid says nothing without its partition, an unlogged table is not in the WAL.
  if (kind !== 'r' || hasChildren === true) throw new DifyEsError('TABLE_UNSUITABLE', `${name} is no plain table (it is partitioned, inherited from, or a view)`);
  if (persistence === 'u') throw new DifyEsError('TABLE_UNSUITABLE', `${name} is unlogged: its changes never reach the stream`);
  const size = { blocks: Math.ceil(Number(heapBytes) / Number(blockSize)), bytes: Number(bytes), blockSize: Number(blockSize) };
  return { source: await describeColumns(session, table, name, { relfilenode: String(relfilenode), columns: String(columns) }), size };
}

async function describeColumns(session: Pick<ReadSession, 'query'>, table: TableName, name: string, stamp: TableStamp): Promise<TableSource> {
  // Generated columns are not in pgoutput's rows either. A domain's cast is looked up by its base type, so it always
  // goes through concat().
  const rows = await session.query(
    `SELECT a.attname, format_type(a.atttypid, NULL),
       t.typtype = 'd' OR EXISTS (SELECT FROM pg_cast k WHERE k.castsource = t.oid AND k.casttarget = 'text'::regtype AND k.castmethod = 'f')
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = to_regclass(${literal(name)}) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum`,
  );
  const columns = rows.map(([column]) => String(column));
  const at = (column: string): number => {
    const index = columns.indexOf(column);
    if (index === -1) throw new DifyEsError('TABLE_UNSUITABLE', `${name} has no column ${column}`);
    return index;
  };
  return {
    table,
    shape: { table, columns },
    stamp,
    name,
    selectList: ['ctid', 'xmin', ...rows.map(([column, , ownCast]) => textOf(String(column), ownCast === true))].join(', '),
    idAt: at('id'),
    tenantAt: at('tenant_id'),
    createdAt: at('created_at'),
    idType: String(rows[at('id')]?.[1]),
  };
}

/** All columns of the rows in these ranges, in physical order. */
export function selectRanges(source: TableSource, ranges: readonly TidRange[], condition: string | null, list = source.selectList): string {
  if (ranges.length === 0) return `SELECT ${list} FROM ONLY ${source.name} WHERE false`;
  const filter = condition === null ? '' : ` AND ${condition}`;
  return ranges.map((range) => `SELECT ${list} FROM ONLY ${source.name} WHERE ${rangeSql(range)}${filter}`).join(' UNION ALL ');
}

/** All columns of the rows with these ids, wherever they are now. */
export function selectIds(source: TableSource, ids: readonly string[]): string {
  const array = ids.map((id) => `"${id.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`).join(',');
  return `SELECT ${source.selectList} FROM ONLY ${source.name} WHERE id = ANY (${literal(`{${array}}`)}::${source.idType}[])`;
}
