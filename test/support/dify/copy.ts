import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { columnsOf, type DifyTable } from './schema.ts';

/** A row as the server's text, by column name; a column that is left out takes its default. */
export type TextRow = Readonly<Record<string, string | null>>;

/** How much text is handed to the socket at once: large enough to be few writes, small beside any row of several MB. */
const CHUNK_CHARS = 256 * 1024;

/** One line of COPY's text format (PostgreSQL documentation, COPY, "Text Format"), with its line end. */
export function copyLine(columns: readonly string[], row: TextRow): string {
  return `${columns.map((column) => copyField(row[column] ?? null)).join('\t')}\n`;
}

const ESCAPES = [['\\', '\\\\'], ['\n', '\\n'], ['\r', '\\r'], ['\t', '\\t']] as const;

/** Plain searches instead of one regular expression: most values have nothing to escape, and there are tens of MB. */
function copyField(text: string | null): string {
  if (text === null) return '\\N';
  let escaped = text;
  for (const [special, escape] of ESCAPES) if (escaped.includes(special)) escaped = escaped.replaceAll(special, escape);
  return escaped;
}

/** Loads rows by one COPY, streaming: the memory it takes does not grow with their number. Returns how many. */
export async function copyRows(client: pg.ClientBase, table: DifyTable, columns: readonly string[], rows: Iterable<TextRow>): Promise<number> {
  const target = client.query(copyFrom(`COPY public.${table} (${columns.map(quote).join(', ')}) FROM STDIN`));
  await pipeline(Readable.from(chunks(columns, rows), { objectMode: true, highWaterMark: 4 }), target);
  return target.rowCount;
}

function* chunks(columns: readonly string[], rows: Iterable<TextRow>): Generator<string> {
  let chunk = '';
  for (const row of rows) {
    chunk += copyLine(columns, row);
    if (chunk.length >= CHUNK_CHARS) {
      yield chunk;
      chunk = '';
    }
  }
  if (chunk !== '') yield chunk;
}

/**
 * Inserts hand-made rows one statement each, so that each has its own columns, defaults and transaction. A column that
 * this release of Dify lacks is left out; a table that it lacks takes none. Returns how many were inserted.
 */
export async function insertRows(client: pg.ClientBase, table: DifyTable, rows: Iterable<TextRow>): Promise<number> {
  const existing = (await columnsOf(client)).get(table);
  if (!existing) return 0;
  let count = 0;
  for (const row of rows) {
    const { text, values } = insertStatement(table, row, existing);
    await client.query(text, values);
    count++;
  }
  return count;
}

/** An INSERT of the columns that the row names and the table has; values as text, which the server casts. */
export function insertStatement(table: DifyTable, row: TextRow, existing?: readonly string[]): { text: string; values: (string | null)[] } {
  const columns = Object.keys(row).filter((column) => !existing || existing.includes(column));
  return {
    text: `INSERT INTO public.${table} (${columns.map(quote).join(', ')}) VALUES (${columns.map((_, i) => `$${i + 1}`).join(', ')})`,
    values: columns.map((column) => row[column] ?? null),
  };
}

/** A column name of Dify or one that a test made up, safe in SQL (`index` is a keyword). */
export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
