import type { TableName } from '../../core/contracts.ts';
import { monthOf } from '../../core/row-key.ts';
import type { OpenTable, Source } from '../validate/source.ts';

/** What a filter selects of one table for one tenant and month. */
export interface Group {
  readonly table: TableName;
  readonly tenantId: string;
  /** `YYYY.MM`; '-' for created_at that has no month: those rows go to the dead letters. */
  readonly month: string;
  readonly rows: number;
  /** Of the values' text, unpacked. */
  readonly bytes: number;
}

/** Pages of one statement, 1 GB: its snapshot holds vacuum up no longer than that takes. */
const BLOCKS = 131_072;

/**
 * Counts exactly, by reading the table's own pages and no TOAST: octet_length of a text takes the length from the
 * pointer (toast_raw_datum_size). `onBlocks` counts up to the table's pages.
 */
export async function countGroups(source: Source, { source: table, size }: OpenTable, condition: string | null, onBlocks: (done: number) => void): Promise<Group[]> {
  const bytes = table.shape.columns.map((column) => `coalesce(octet_length("${column.replaceAll('"', '""')}"::text), 0)`).join(' + ');
  const sums = new Map<string, Group>();
  for (let from = 0; from < Math.max(1, size.blocks); from += BLOCKS) {
    const pages = `ctid >= '(${from},0)'::tid AND ctid < '(${Math.min(from + BLOCKS, 0xffff_fffe)},0)'::tid`;
    const rows = (await source.query(
      `SELECT tenant_id::text, min(created_at)::text, count(*)::float8, sum(${bytes})::float8
         FROM ONLY ${table.name} WHERE ${pages}${condition === null ? '' : ` AND ${condition}`}
        GROUP BY tenant_id, CASE WHEN isfinite(created_at) THEN date_trunc('month', created_at) ELSE created_at END`,
    )) as [string, string, number, number][];
    for (const [tenantId, createdAt, count, textBytes] of rows) {
      const month = monthOf(createdAt) ?? '-';
      const key = `${tenantId}/${month}`;
      const before = sums.get(key);
      sums.set(key, { table: table.table, tenantId, month, rows: (before?.rows ?? 0) + count, bytes: (before?.bytes ?? 0) + textBytes });
    }
    onBlocks(Math.min(from + BLOCKS, size.blocks));
  }
  return [...sums.values()].sort((a, b) => (a.tenantId + a.month < b.tenantId + b.month ? -1 : 1));
}
