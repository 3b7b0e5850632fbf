import type pg from 'pg';
import type { Cells } from '../../core/cells.ts';
import type { TableName } from '../../core/contracts.ts';
import type { RowKey } from '../../core/row-key.ts';
import { toPgError } from '../../pipeline/capture/pg-connection.ts';
import { describeTable, sameStamp, selectIds, selectRanges, type TableSize, type TableSource } from '../../pipeline/backfill/table-source.ts';
import { blockRange } from '../../pipeline/backfill/tid.ts';
import { CopyReader } from './copy-reader.ts';
import type { SeenKey, SeenRow } from './verdict.ts';

/** One statement reads so many pages (2 MB and their TOAST): short enough that its snapshot holds up no vacuum. */
const BLOCKS = 256;
/** Rows of one statement where they are read by id. */
const IDS = 1000;
/** Ids of one statement where only keys are asked for. */
const PLACES = 5000;
/** Bytes of rows in memory at a time. */
const BATCH_BYTES = 8 << 20;

/** ctid and xmin come before the columns. */
const SYSTEM_COLUMNS = 2;

export interface OpenTable {
  readonly source: TableSource;
  readonly size: TableSize;
}

/** PostgreSQL as validation reads it. Two connections, since rows are looked up while a statement is still being read. */
export class Source {
  readonly #scanning: pg.Client;
  readonly #lookup: pg.Client;
  readonly #schema: string;

  constructor(clients: { readonly scanning: pg.Client; readonly lookup: pg.Client }, schema: string) {
    this.#scanning = clients.scanning;
    this.#lookup = clients.lookup;
    this.#schema = schema;
  }

  /** Undefined when this Dify release has no such table. */
  async open(table: TableName): Promise<OpenTable | undefined> {
    return await describeTable({ query: (text) => this.query(text) }, this.#schema, table);
  }

  /** True when the table was rewritten or altered since it was opened: a scan may then have missed rows. */
  async hasChanged(table: OpenTable): Promise<boolean> {
    const now = await this.open(table.source.table);
    return !now || !sameStamp(now.source.stamp, table.source.stamp);
  }

  /**
   * All rows in physical order, each page once. A row that is updated meanwhile may come twice or not at all.
   * `blocksDone` counts up to size.blocks.
   */
  async *scan({ source, size }: OpenTable, condition: string | null): AsyncGenerator<{ rows: SeenRow[]; blocksDone: number }> {
    for (let from = 0; from < size.blocks; from += BLOCKS) {
      const to = Math.min(size.blocks, from + BLOCKS);
      // the last range has no upper end, for the pages that were added since
      const select = selectRanges(source, [blockRange(from, to === size.blocks ? 0xffff_fffe : to)], condition);
      for await (const rows of this.#copy(this.#scanning, source, select)) yield { rows, blocksDone: to };
    }
  }

  /** As scan, in the order of ids, by the indexes: for the few rows of a tenant in a large table. */
  async *scanByKey({ source }: OpenTable, condition: string): AsyncGenerator<{ rows: SeenRow[]; blocksDone: number }> {
    for (let last: string | null = null; ; ) {
      const after: string = last === null ? '' : ` AND id > ${textLiteral(last)}::${source.idType}`;
      const select: string = `SELECT ${source.selectList} FROM ONLY ${source.name} WHERE ${condition}${after} ORDER BY id LIMIT ${IDS}`;
      let count = 0;
      for await (const rows of this.#copy(this.#scanning, source, select)) {
        count += rows.length;
        last = rows.at(-1)!.key.id;
        // how far it is cannot be said in pages
        yield { rows, blocksDone: 0 };
      }
      if (count < IDS) return;
    }
  }

  /** The rows of these ids as they are now, in batches; those that are gone do not come. */
  async *rowsOf({ source }: OpenTable, ids: readonly string[]): AsyncGenerator<SeenRow[]> {
    for (const some of slices(ids, IDS)) yield* this.#copy(this.#lookup, source, selectIds(source, some));
  }

  /** Key, xmin and stored bytes (compressed, without reading TOAST) of these ids; those that are gone are absent. */
  async keysOf({ source }: OpenTable, ids: readonly string[]): Promise<Map<string, SeenKey & { readonly storedBytes: number }>> {
    const bytes = source.shape.columns.map((column) => `coalesce(pg_column_size("${column.replaceAll('"', '""')}"), 0)`).join(' + ');
    const text = `SELECT id::text, tenant_id::text, created_at::text, xmin::text, ${bytes} FROM ONLY ${source.name} WHERE id = ANY ($1::${source.idType}[])`;
    const found = new Map<string, SeenKey & { readonly storedBytes: number }>();
    for (const some of slices(ids, PLACES)) {
      for (const [id, tenantId, createdAt, xmin, storedBytes] of (await this.query(text, [some])) as [string, string, string, string, number][]) {
        found.set(id, { key: { id, tenantId, createdAt }, xmin, storedBytes });
      }
    }
    return found;
  }

  /** The keys of these ids, by the identity index alone where there is one; those that are gone are absent. */
  async placesOf({ source }: OpenTable, ids: readonly string[]): Promise<Map<string, RowKey>> {
    const text = `SELECT id::text, tenant_id::text, created_at::text FROM ONLY ${source.name} WHERE id = ANY ($1::${source.idType}[])`;
    const found = new Map<string, RowKey>();
    for (const some of slices(ids, PLACES)) {
      for (const [id, tenantId, createdAt] of (await this.query(text, [some])) as [string, string, string][]) found.set(id, { id, tenantId, createdAt });
    }
    return found;
  }

  /** Rows as arrays of node-postgres values. */
  async query(text: string, values: readonly unknown[] = []): Promise<unknown[][]> {
    try {
      return (await this.#lookup.query<unknown[]>({ text, values: [...values], rowMode: 'array' })).rows;
    } catch (error) {
      throw toPgError(error, 'query');
    }
  }

  async *#copy(client: pg.Client, source: TableSource, select: string): AsyncGenerator<SeenRow[]> {
    const reader = client.query(new CopyReader(select, source.shape.columns.length + SYSTEM_COLUMNS, BATCH_BYTES));
    const batches = reader.batches();
    try {
      for (;;) {
        const { value, done } = await batches.next().catch((error: unknown) => {
          throw toPgError(error, 'query');
        });
        if (done) return;
        yield value.map((cells) => seenRow(source, cells));
      }
    } finally {
      await batches.return(undefined);
    }
  }
}

function seenRow(source: TableSource, all: Cells): SeenRow {
  const cells = all.after(SYSTEM_COLUMNS);
  const text = (at: number): string => cells.get(at)?.toString('utf8') ?? '';
  return {
    key: { tenantId: text(source.tenantAt), createdAt: text(source.createdAt), id: text(source.idAt) },
    xmin: String(all.bytes.readUInt32BE(all.start(1))),
    row: { shape: source.shape, cells },
  };
}

function textLiteral(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

export function* slices<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}
