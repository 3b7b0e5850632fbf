import type { TableName } from '../../core/contracts.ts';
import type { BackfillTable, SegmentProgress } from '../../core/state.ts';
import { freshProgress, type OpenSegment, segmentsOf } from './ranges.ts';
import type { PlannedTable } from './table-plan.ts';
import type { TableSource } from './table-source.ts';

/** What a person sees of one table: what all processes of the run have read of it. */
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

/** One table of a run: its plan, replaced when the table changes, and how far all processes have read it. */
export class TableScan {
  readonly table: TableName;
  #planned: PlannedTable | undefined;
  #segments: OpenSegment[] = [];
  #rows = 0;
  #bytes = 0;
  #blocksDone = 0;
  #open = 0;
  #replanning: Promise<void> | undefined;

  constructor(table: TableName, planned: PlannedTable) {
    this.table = table;
    this.#planned = planned;
  }

  /** Undefined once the table was dropped. */
  get planned(): PlannedTable | undefined {
    return this.#planned;
  }

  get done(): boolean {
    return this.#open === 0;
  }

  /** Begins the scan of the current plan, given the progress recorded for it. */
  begin(progressOf: (plan: BackfillTable, segment: number) => SegmentProgress | undefined): void {
    const plan = this.#planned?.plan;
    const segments = plan ? segmentsOf(plan) : [];
    this.#segments = segments.map((segment) => ({ segment, progress: freshProgress(segment) }));
    [this.#rows, this.#bytes, this.#blocksDone, this.#open] = [0, 0, 0, segments.length];
    if (plan) for (const { index } of segments) this.note(plan.scan, index, progressOf(plan, index));
  }

  /** What is left to read. */
  remaining(): SegmentJob[] {
    const plan = this.#planned?.plan;
    return plan ? this.#segments.filter(({ progress }) => !progress.done).map((open) => ({ scan: this, number: plan.scan, open })) : [];
  }

  /**
   * Progress of a segment, by whoever made it; true when it is news. What comes late, or belongs to another scan, is
   * passed over.
   */
  note(scan: number, index: number, progress: SegmentProgress | undefined): boolean {
    const known = this.#segments[index];
    if (!progress || !known || this.#planned?.plan.scan !== scan) return false;
    const { segment, progress: before } = known;
    if (before.done || progress.nextBlock < before.nextBlock || progress.rows < before.rows) return false;
    if (progress.nextBlock === before.nextBlock && progress.rows === before.rows && !progress.done) return false;
    this.#segments[index] = { segment, progress };
    this.#rows += progress.rows - before.rows;
    this.#bytes += progress.bytes - before.bytes;
    this.#blocksDone += (progress.done ? segment.to : progress.nextBlock) - before.nextBlock;
    if (progress.done) this.#open--;
    return true;
  }

  /**
   * Plans the table anew because `stale` no longer describes it; true when its scan begins again. Several workers
   * notice at once: the first one plans, the others wait for it, and where it fails the next one plans, alone too: two
   * plans would begin the scan twice, and the second beginning takes back the jobs that the first has led to.
   */
  async replan(stale: TableSource, plan: () => Promise<PlannedTable | undefined>): Promise<boolean> {
    while (this.#replanning) await this.#replanning;
    const current = this.#planned;
    if (!current || current.source !== stale) return false;
    let again = false;
    const work = plan().then((planned) => {
      this.#planned = planned;
      again = planned?.plan.scan !== current.plan.scan;
    });
    this.#replanning = work.catch(() => undefined).finally(() => (this.#replanning = undefined));
    await work;
    return again;
  }

  progress(): TableProgress {
    const plan = this.#planned?.plan;
    return {
      table: this.table, rows: this.#rows, bytes: this.#bytes, totalRowsEstimate: plan?.estimatedRows ?? 0,
      blocksDone: this.#blocksDone, blocks: plan?.blocks ?? 0, scan: plan?.scan ?? 1, done: this.done,
    };
  }
}
