import type { TableName } from '../../core/contracts.ts';
import type { BackfillTable, SegmentProgress } from '../../core/state.ts';
import { remaining, type OpenSegment } from './ranges.ts';
import type { TableSource } from './table-source.ts';
import type { PlannedTable } from './table-plan.ts';

/** What a person sees of one table. */
export interface TableProgress {
  readonly table: TableName;
  /** Rows and bytes read so far, also by the runs before that this one resumes. */
  readonly rows: number;
  readonly bytes: number;
  readonly totalRowsEstimate: number;
  readonly blocksDone: number;
  readonly blocks: number;
  /** Above 1: the table was rewritten in mid-run and is read again from the beginning. */
  readonly scan: number;
  readonly done: boolean;
}

/** What a worker does next: the rest of one segment, as long as the table's scan is still `scan`. */
export interface SegmentJob {
  readonly scan: TableScan;
  readonly number: number;
  readonly open: OpenSegment;
}

/** One table of a run: its plan, replaced when the table changes, and how far it was read. */
export class TableScan {
  readonly table: TableName;
  #planned: PlannedTable | undefined;
  #rows = 0;
  #bytes = 0;
  #blocksDone = 0;
  #openSegments = 0;
  #replanning: Promise<void> | undefined;

  constructor(table: TableName, planned: PlannedTable) {
    this.table = table;
    this.#planned = planned;
  }

  /** Undefined once the table was dropped. */
  get planned(): PlannedTable | undefined {
    return this.#planned;
  }

  /** Begins the scan of the current plan: what is left of it, given the progress recorded for it. */
  begin(progressOf: (plan: BackfillTable, segment: number) => SegmentProgress | undefined): SegmentJob[] {
    const plan = this.#planned?.plan;
    if (!plan) return [];
    const { open, done } = remaining(plan, (segment) => progressOf(plan, segment));
    const read = [...done, ...open.map(({ progress }) => progress)];
    this.#rows = read.reduce((sum, { rows }) => sum + rows, 0);
    this.#bytes = read.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#blocksDone = plan.blocks - open.reduce((sum, { segment, progress }) => sum + segment.to - progress.nextBlock, 0);
    this.#openSegments = open.length;
    return open.map((segment) => ({ scan: this, number: plan.scan, open: segment }));
  }

  /**
   * Plans the table anew because `stale` no longer describes it; true when its scan begins again. Several workers
   * notice at once: the first one plans, the others wait for it.
   */
  async replan(stale: TableSource, plan: (former: BackfillTable) => Promise<PlannedTable | undefined>): Promise<boolean> {
    await this.#replanning;
    const current = this.#planned;
    if (!current || current.source !== stale) return false;
    let again = false;
    const work = plan(current.plan).then((planned) => {
      this.#planned = planned;
      again = planned?.plan.scan !== current.plan.scan;
    });
    this.#replanning = work.catch(() => undefined).finally(() => (this.#replanning = undefined));
    await work;
    return again;
  }

  /** After a chunk's transaction committed, or an empty one was read. */
  advance(number: number, from: SegmentProgress, to: SegmentProgress): void {
    if (this.#planned?.plan.scan !== number) return;
    this.#rows += to.rows - from.rows;
    this.#bytes += to.bytes - from.bytes;
    this.#blocksDone += to.nextBlock - from.nextBlock;
    if (to.done) this.#openSegments--;
  }

  progress(): TableProgress {
    const plan = this.#planned?.plan;
    return {
      table: this.table, rows: this.#rows, bytes: this.#bytes, totalRowsEstimate: plan?.estimatedRows ?? 0,
      blocksDone: this.#blocksDone, blocks: plan?.blocks ?? 0, scan: plan?.scan ?? 1, done: !plan || this.#openSegments === 0,
    };
  }
}
