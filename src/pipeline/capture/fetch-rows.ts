import pg from 'pg';
import type { Cell, FetchedRows, FetchRows, Relation } from '../../core/contracts.ts';
import { parseLsn, type Lsn } from '../../core/lsn.ts';
import { query, toPgError, type Queryable } from './pg-connection.ts';

export interface FetchRowsOptions {
  readonly schema: string;
  /** Values of one answer, at least one row: this much is in memory beside the batch. */
  readonly maxBytes: number;
}

/**
 * For the sessions that fetch: rows are looked up by id, always. The planner takes 500 ids of a table whose rows are
 * mostly TOASTed for a reason to read all of it.
 */
export const LOOKUP_SETTINGS = { enable_seqscan: 'off', enable_hashjoin: 'off', enable_mergejoin: 'off' } as const;

/** Column numbers by name as they were when the announcement was first asked about: a number is never used twice. */
type Attnums = ReadonlyMap<string, number>;

const AS_TEXT: pg.CustomTypesConfig = { getTypeParser: () => (text: string) => text };
const UNDEFINED_COLUMN = '42703';
const UNDEFINED_TABLE = '42P01';

/**
 * Reads columns of rows as the server's own text, for the holes that unchanged TOAST leaves.
 *
 * A column is read only while it has the name and the number under which it was announced: dropped, renamed or dropped
 * and added again, it is missing in the answer. Names alone would fill in another column's values, and an error for a
 * missing column would come again at every start.
 */
export function rowFetcher(db: Queryable, options: FetchRowsOptions): FetchRows {
  const known = new WeakMap<Relation, Attnums>();
  return async (relation, ids, columns) => {
    for (;;) {
      const attnums = known.get(relation) ?? (await liveColumns(db, relation));
      known.set(relation, attnums);
      const answer = await fetchOnce(db, options, relation, ids, columns.filter((column) => attnums.has(column)), attnums);
      if (answer !== 'columns-changed') return answer;
      const now = await liveColumns(db, relation);
      known.set(relation, new Map([...attnums].filter(([name, attnum]) => now.get(name) === attnum)));
    }
  };
}

async function liveColumns(db: Queryable, relation: Relation): Promise<Attnums> {
  const rows = await query<{ attname: string; attnum: number }>(db, 'SELECT attname, attnum FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped', [relation.oid]);
  return new Map(rows.map(({ attname, attnum }) => [attname, attnum]));
}

async function fetchOnce(db: Queryable, options: FetchRowsOptions, relation: Relation, ids: readonly string[], columns: readonly string[], attnums: Attnums): Promise<FetchedRows | 'columns-changed'> {
  const text = statement(options.schema, relation.shape.table, columns);
  let result: pg.QueryArrayResult<(string | null)[]>;
  try {
    result = await db.query<(string | null)[]>({ text, values: [ids, options.maxBytes], rowMode: 'array', types: AS_TEXT });
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === UNDEFINED_COLUMN) return 'columns-changed';
    if (code === UNDEFINED_TABLE) return { columns, rows: new Map(ids.map((id) => [id, null])), asOf: await endOfWal(db) };
    throw toPgError(error, 'query');
  }
  // The number of the column that was really read, so that two columns whose names were swapped meanwhile are noticed.
  const same = columns.map((column, i) => result.fields[i + 3]?.columnID === attnums.get(column));
  const rows = new Map(result.rows.map(([id, present, , ...values]) => [id!, present === 't' ? values.filter((_, i) => same[i]).map(toCell) : null]));
  return { columns: columns.filter((_, i) => same[i]), rows, asOf: parseLsn(result.rows[0]![2]!) };
}

async function endOfWal(db: Queryable): Promise<Lsn> {
  const [row] = await query<{ lsn: string }>(db, 'SELECT pg_current_wal_insert_lsn()::text AS lsn');
  return parseLsn(row!.lsn);
}

/**
 * The rows in the order of the ids until the budget is used up. Sizes are summed up before the values leave the table:
 * octet_length reads the length of a TOASTed text from its pointer.
 */
function statement(schema: string, table: string, columns: readonly string[]): string {
  const cells = columns.map((column) => `t.${pg.escapeIdentifier(column)}`);
  const size = cells.map((cell) => `coalesce(octet_length(${cell}::text), 0)`).join(' + ') || '0';
  return `
    SELECT id, present, pg_current_wal_insert_lsn()::text${cells.map((_, i) => `, c${i}`).join('')} FROM (
      SELECT w.id, w.ord, t.id IS NOT NULL AS present${cells.map((cell, i) => `, ${cell} AS c${i}`).join('')},
             sum(${size}) OVER (ORDER BY w.ord ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
      FROM unnest($1::uuid[]) WITH ORDINALITY AS w(id, ord)
      LEFT JOIN ${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(table)} AS t ON t.id = w.id
    ) AS wanted WHERE coalesce(before, 0) < $2 ORDER BY ord`;
}

function toCell(value: string | null): Cell {
  return value === null ? null : Buffer.from(value, 'utf8');
}
