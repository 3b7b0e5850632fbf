import { blockOf, offsetOf, type Tid, tidOf } from './tid.ts';

export interface ChunkGoals {
  readonly rows: number;
  readonly bytes: number;
}

/** No more pages in one statement, however empty they are: its lock makes an ALTER TABLE wait, and Dify behind it. */
const MOST_BLOCKS = 4096;
const GROWTH = 2;
const AFTER_OVERFLOW = 8;

/**
 * How many pages the next chunk takes, learnt from the last one: rows and bytes differ by a thousand between the parts
 * of one table, and heap pages say nothing of what hangs on them in TOAST. Below one page it takes some line pointers
 * of it: 25 rows of 8 MB fit one page. Grows slowly, shrinks at once.
 */
export class ChunkSizer {
  readonly #goals: ChunkGoals;
  readonly #offsets: number;
  #blocks: number;

  /** `offsetsPerBlock`: line pointers a page can have. `bytesPerBlock`, `rowsPerBlock`: what is expected at first. */
  constructor(goals: ChunkGoals, offsetsPerBlock: number, expected: { readonly rowsPerBlock: number; readonly bytesPerBlock: number }) {
    this.#goals = goals;
    this.#offsets = offsetsPerBlock;
    this.#blocks = this.#bounded(Math.min(goals.rows / Math.max(expected.rowsPerBlock, 0.01), goals.bytes / Math.max(expected.bytesPerBlock, 1)));
  }

  /** Whole pages to take; 0 when a part of one page is to be taken, see `partEnd`. */
  get blocks(): number {
    return Math.floor(this.#blocks);
  }

  /** Where a chunk that begins at `from` ends when it takes a part of its page only. */
  partEnd(from: Tid): Tid {
    const offset = offsetOf(from) + Math.max(1, Math.floor(this.#blocks * this.#offsets));
    return offset > this.#offsets ? tidOf(blockOf(from) + 1, 0) : tidOf(blockOf(from), offset);
  }

  /** `blocks`: pages read, a fraction for a part of one. */
  observe(blocks: number, rows: number, bytes: number): void {
    const wanted = rows === 0 ? Number.POSITIVE_INFINITY : blocks * Math.min(this.#goals.rows / rows, this.#goals.bytes / Math.max(bytes, 1));
    this.#blocks = this.#bounded(Math.min(wanted, Math.max(this.#blocks, blocks) * GROWTH));
  }

  /** After a chunk of `blocks` pages that was too large to be read. */
  overflow(blocks: number): void {
    this.#blocks = this.#bounded(Math.min(this.#blocks, blocks) / AFTER_OVERFLOW);
  }

  /** True when not even less could be asked for: a single row. */
  get smallest(): boolean {
    return this.#blocks * this.#offsets < 2;
  }

  #bounded(blocks: number): number {
    return Math.min(MOST_BLOCKS, Math.max(1 / this.#offsets, blocks));
  }
}
