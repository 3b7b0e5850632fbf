import type { TableName } from '../../core/contracts.ts';
import type { BackfillTable } from '../../core/state.ts';
import { PageSet } from './page-set.ts';
import { segmentBlocks } from './ranges.ts';
import type { ReadSession } from './read-session.ts';
import { describeTable, type TableSize, type TableSource } from './table-source.ts';

/** A table as one scan of it reads it. Replaced as a whole when the table changes. */
export interface PlannedTable {
  readonly source: TableSource;
  readonly size: TableSize;
  readonly plan: BackfillTable;
  /** The filter as SQL. */
  readonly condition: string | null;
  /** Pages with rows that pass the filter, where reading only these is less; null: all pages. */
  readonly pages: PageSet | null;
}

/** A part of EXPLAIN (FORMAT JSON). */
export interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Plan Rows': number;
  readonly Plans?: readonly PlanNode[];
}

const INDEX_NODES: ReadonlySet<string> = new Set(['Index Scan', 'Index Only Scan', 'Bitmap Heap Scan', 'Bitmap Index Scan']);

/** True when the server would rather ask an index for these rows than read the table. */
export function usesIndex(node: PlanNode): boolean {
  return INDEX_NODES.has(node['Node Type']) || (node.Plans ?? []).some(usesIndex);
}

/** Above this share of pages with matching rows the gaps are not worth going around. */
const SELECTIVE_SHARE = 0.2;
/** A small table is read faster than it is planned. */
const SMALL_BLOCKS = 64;

/**
 * Describes a table, counts its pages and says how to read it. Call it after the barrier only: what it does not count
 * must have come later. Undefined when there is no such table.
 *
 * `former`: the plan of this run so far. The same relfilenode keeps its pages, segments and scan, so that recorded
 * progress holds; another one is a rewritten table: the scan after it, from the beginning.
 */
export async function planTable(
  session: ReadSession, schema: string, table: TableName, condition: string | null, former?: BackfillTable,
): Promise<PlannedTable | undefined> {
  const described = await describeTable(session, schema, table);
  if (!described) return undefined;
  const { source, size } = described;
  const estimate = await explain(session, source, condition);
  const plan: BackfillTable = former?.relfilenode === source.stamp.relfilenode
    ? former
    : { relfilenode: source.stamp.relfilenode, blocks: size.blocks, segmentBlocks: segmentBlocks(size.blocks), estimatedRows: estimate['Plan Rows'], scan: (former?.scan ?? 0) + 1 };
  const pages = condition !== null && plan.blocks >= SMALL_BLOCKS && usesIndex(estimate) ? await collectPages(session, source, plan.blocks, condition) : null;
  return { source, size, plan, condition, pages };
}

async function explain(session: ReadSession, source: TableSource, condition: string | null): Promise<PlanNode> {
  const [row] = await session.query(`EXPLAIN (FORMAT JSON) SELECT ctid FROM ONLY ${source.name}${condition === null ? '' : ` WHERE ${condition}`}`);
  return (row?.[0] as [{ Plan: PlanNode }])[0].Plan;
}

/**
 * The pages that hold rows which pass the filter, by the table's own indexes; null when they are too many. A row that
 * comes to another page afterwards was changed after the barrier, so the stream carries it.
 */
async function collectPages(session: ReadSession, source: TableSource, blocks: number, condition: string): Promise<PageSet | null> {
  const pages = new PageSet(blocks);
  await session.copy(`SELECT ctid FROM ONLY ${source.name} WHERE ${condition}`, 1, Number.POSITIVE_INFINITY, (cells) => {
    pages.add(cells.bytes.readUInt32BE(cells.start(0)));
  });
  return pages.count > blocks * SELECTIVE_SHARE ? null : pages;
}

/** Line pointers a page can have: 24 bytes of page header, then 24 of tuple header and 4 of line pointer each (bufpage.h, MaxHeapTuplesPerPage). */
export function offsetsPerBlock(size: Pick<TableSize, 'blockSize'>): number {
  return Math.floor((size.blockSize - 24) / 28);
}
