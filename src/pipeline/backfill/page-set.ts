import { blockRange, type TidRange } from './tid.ts';

/** One bit for each page: 12 MB for a heap of 800 GB, whatever is in it. */
export class PageSet {
  readonly blocks: number;
  readonly #bits: Uint32Array;
  #count = 0;

  constructor(blocks: number) {
    this.blocks = blocks;
    this.#bits = new Uint32Array(Math.ceil(blocks / 32));
  }

  /** Pages beyond the table's end as it was counted are none of the run's. */
  add(block: number): void {
    if (block >= this.blocks || this.has(block)) return;
    this.#bits[block >>> 5] = (this.#bits[block >>> 5] ?? 0) | (1 << (block & 31));
    this.#count++;
  }

  has(block: number): boolean {
    return ((this.#bits[block >>> 5] ?? 0) & (1 << (block & 31))) !== 0;
  }

  get count(): number {
    return this.#count;
  }

  /** The first page of the set in [from, end), or `end`. */
  next(from: number, end: number): number {
    for (let block = from; block < end; ) {
      if ((block & 31) === 0 && this.#bits[block >>> 5] === 0) block += 32;
      else if (this.has(block)) return block;
      else block++;
    }
    return end;
  }
}

/** Pages between two wanted ones that are rather read and filtered than asked for around: one disk read is longer. */
const BRIDGE = 8;
/** Each range is a branch of the statement, planned for itself. */
const MOST_RANGES = 32;

/**
 * The next ranges of a chunk of about `want` pages within [from, end), and the page after them. Without a set all
 * pages count. No ranges: nothing is left.
 */
export function takePages(pages: PageSet | null, from: number, end: number, want: number): { ranges: TidRange[]; next: number } {
  if (from >= end) return { ranges: [], next: end };
  if (!pages) {
    const next = Math.min(end, from + want);
    return { ranges: [blockRange(from, next)], next };
  }
  const ranges: TidRange[] = [];
  let taken = 0;
  let at = pages.next(from, end);
  while (at < end && taken < want && ranges.length < MOST_RANGES) {
    const start = at;
    let stop = at + 1;
    taken++;
    for (at = pages.next(stop, end); at < end && at - stop <= BRIDGE && taken < want; at = pages.next(stop, end)) {
      taken += at + 1 - stop;
      stop = at + 1;
    }
    ranges.push(blockRange(start, stop));
  }
  return { ranges, next: at };
}
