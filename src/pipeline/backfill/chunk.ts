import { copyBytes, type Cells } from '../../core/cells.ts';
import type { DeadLetter, RowRecord } from '../../core/contracts.ts';
import { formatLsn, type Lsn } from '../../core/lsn.ts';
import { isUuid, type RowKey } from '../../core/row-key.ts';
import { type RowVersion, versionOfBackfill } from '../../core/row-version.ts';
import type { ReadSession } from './read-session.ts';
import type { Slabs } from './slabs.ts';
import { selectIds, selectRanges, type TableSource } from './table-source.ts';
import type { TidRange } from './tid.ts';

/** What all rows of a run have in common: both come from its barrier. */
export interface RunVersion {
  readonly version: RowVersion;
  readonly lsn: Lsn;
}

export function runVersion(epoch: number, barrier: Lsn): RunVersion {
  return { version: versionOfBackfill(epoch, barrier), lsn: (barrier - 1n) as Lsn };
}

/** A row as one statement saw it. `xmin` says which version of the row it is: another transaction, another version. */
export interface ReadRow {
  readonly record: RowRecord;
  readonly xmin: number;
}

/** The rows of some pages as one statement saw them. */
export interface Chunk {
  readonly ranges: readonly TidRange[];
  readonly rows: readonly ReadRow[];
  /** For each row PLACE_BYTES: its ctid (block, offset) and xmin as the server sends them. */
  readonly places: Buffer;
  /** Rows that can never be a document. */
  readonly letters: readonly DeadLetter[];
  readonly bytes: number;
}

/** 4 bytes block, 2 bytes offset (tidsend), 4 bytes xmin (xidsend). */
export const PLACE_BYTES = 10;

/** ctid and xmin before the row's own columns. */
const SYSTEM_COLUMNS = 2;

/** 'overflow': more than `limitBytes`; the session is closed then. The rows lie in `slabs`, which must outlive them. */
export async function readChunk(
  session: ReadSession, source: TableSource, ranges: readonly TidRange[], condition: string | null, run: RunVersion, limitBytes: number, slabs?: Slabs,
): Promise<Chunk | 'overflow'> {
  const rows: ReadRow[] = [];
  const letters: DeadLetter[] = [];
  let places = Buffer.allocUnsafe(PLACE_BYTES * 1024);
  const take = rowTaker(source, run);
  const bytes = await session.copy(selectRanges(source, ranges, condition), source.shape.columns.length + SYSTEM_COLUMNS, limitBytes, (cells) => {
    const row = take(cells);
    if (!row) return void letters.push(badKey(source, run));
    const at = rows.length * PLACE_BYTES;
    if (at === places.length) places = Buffer.concat([places], 2 * at);
    copyBytes(places, at, cells.bytes, cells.start(0), cells.end(0));
    copyBytes(places, at + 6, cells.bytes, cells.start(1), cells.end(1));
    rows.push(row);
  }, slabs);
  if (bytes === 'overflow') return 'overflow';
  return { ranges, rows, places: places.subarray(0, rows.length * PLACE_BYTES), letters, bytes };
}

/** The rows with these ids as they are now, by id; an id without a row is missing. */
export async function lookUp(
  session: ReadSession, source: TableSource, ids: readonly string[], run: RunVersion, limitBytes: number,
): Promise<ReadonlyMap<string, ReadRow> | 'overflow'> {
  const found = new Map<string, ReadRow>();
  const take = rowTaker(source, run);
  const bytes = await session.copy(selectIds(source, ids), source.shape.columns.length + SYSTEM_COLUMNS, limitBytes, (cells) => {
    const row = take(cells);
    if (row) found.set(row.record.key.id, row);
  });
  return bytes === 'overflow' ? 'overflow' : found;
}

/** Makes rows of cells; undefined for one whose key cannot name a document. */
function rowTaker(source: TableSource, run: RunVersion): (cells: Cells) => ReadRow | undefined {
  const { table, shape } = source;
  const [idAt, tenantAt, createdAt] = [source.idAt + SYSTEM_COLUMNS, source.tenantAt + SYSTEM_COLUMNS, source.createdAt + SYSTEM_COLUMNS];
  const timeMs = Date.now();
  return (cells) => {
    const key = keyOf(cells.ascii(idAt), cells.ascii(tenantAt), cells.ascii(createdAt));
    if (!key) return undefined;
    const xmin = cells.bytes.readUInt32BE(cells.start(1));
    return { xmin, record: { table, key, version: run.version, op: 'read', lsn: run.lsn, timeMs, row: { shape, cells: cells.after(SYSTEM_COLUMNS) } } };
  };
}

function keyOf(id: string | undefined, tenantId: string | undefined, createdAt: string | undefined): RowKey | undefined {
  if (id === undefined || tenantId === undefined || createdAt === undefined) return undefined;
  return isUuid(id) && isUuid(tenantId) ? { tenantId, createdAt, id } : undefined;
}

function badKey(source: TableSource, run: RunVersion): DeadLetter {
  const detail = 'a row whose id or tenant_id is no uuid, or without tenant_id and created_at';
  return { cause: 'bad-key', detail, table: source.table, key: null, version: run.version, origin: { stage: 'backfill', lsn: formatLsn(run.lsn) }, value: null };
}
