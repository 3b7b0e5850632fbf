/*
 * The cells of a row as places in one buffer. An object for each of a row's two dozen cells was a third of the backfill's
 * CPU: they live until the row is acknowledged, and the collector marks and moves all of them.
 */

/** A start below zero stands for what has no bytes. */
const NULL = -1;
const HOLE = -2;

/** Places are handed out of large arrays and never a second time: a typed array for each row costs as much as its cells. */
const ROOM = 1 << 14;
let room = new Int32Array(ROOM);
let used = 0;

class Places {
  /** What the places point into. It is kept alive by them, and with it all else that it holds. */
  readonly bytes: Buffer;
  readonly length: number;
  protected readonly at: Int32Array;
  protected readonly from: number;

  protected constructor(bytes: Buffer, length: number, at: Int32Array, from: number) {
    this.bytes = bytes;
    this.length = length;
    this.at = at;
    this.from = from;
  }

  isNull(index: number): boolean {
    return this.at[this.from + 2 * index] === NULL;
  }

  /** Where the cell begins in `bytes`; below zero where it has none. */
  start(index: number): number {
    return this.at[this.from + 2 * index]!;
  }

  end(index: number): number {
    return this.at[this.from + 2 * index + 1]!;
  }

  /** The cell's text where it is ASCII, as ids and timestamps are; undefined where it has no bytes or there is no such cell. */
  ascii(index: number): string | undefined {
    const start = index < 0 || index >= this.length ? NULL : this.start(index);
    return start < 0 ? undefined : this.bytes.toString('latin1', start, this.end(index));
  }

  /** Bytes of all cells. */
  get size(): number {
    let size = 0;
    for (let index = 0; index < this.length; index++) if (this.start(index) >= 0) size += this.end(index) - this.start(index);
    return size;
  }

  /** For whoever makes the row: the place of one cell, once. */
  put(index: number, start: number, end: number): void {
    this.at[this.from + 2 * index] = start;
    this.at[this.from + 2 * index + 1] = end;
  }

  putNull(index: number): void {
    this.at[this.from + 2 * index] = NULL;
  }
}

/** Takes room for so many cells; the caller gives each its place. */
function reserve(length: number): { at: Int32Array; from: number } {
  if (used + 2 * length > room.length) {
    room = new Int32Array(Math.max(ROOM, 2 * length));
    used = 0;
  }
  const from = used;
  used += 2 * length;
  return { at: room, from };
}

/** All cells of a row, none missing: UTF-8 as the server prints it, or SQL NULL. */
export class Cells extends Places {
  static room(bytes: Buffer, length: number): Cells {
    const { at, from } = reserve(length);
    return new Cells(bytes, length, at, from);
  }

  /** A copy of single values, in one buffer. */
  static of(values: readonly (Buffer | null)[]): Cells {
    const cells = Cells.room(Buffer.concat(values.map((value) => value ?? Buffer.alloc(0))), values.length);
    let start = 0;
    for (const [index, value] of values.entries()) {
      if (value === null) cells.putNull(index);
      else cells.put(index, start, (start += value.length));
    }
    return cells;
  }

  /** The row of a tuple whose holes are filled from another one's cells, in a buffer of its own; undefined where that has the same hole. */
  static filled(tuple: Tuple, from: Cells | Tuple): Cells | undefined {
    let size = 0;
    for (let index = 0; index < tuple.length; index++) {
      const source = tuple.isHole(index) ? from : tuple;
      const start = source.start(index);
      if (start === HOLE) return undefined;
      if (start >= 0) size += source.end(index) - start;
    }
    const bytes = Buffer.allocUnsafe(size);
    const cells = Cells.room(bytes, tuple.length);
    let at = 0;
    for (let index = 0; index < tuple.length; index++) {
      const source = tuple.isHole(index) ? from : tuple;
      const start = source.start(index);
      if (start < 0) cells.putNull(index);
      else cells.put(index, at, (at = copyBytes(bytes, at, source.bytes, start, source.end(index))));
    }
    return cells;
  }

  /** A view of one cell; null is SQL NULL. Throws a RangeError where there is no such cell. */
  get(index: number): Buffer | null {
    if (index < 0 || index >= this.length) throw new RangeError(`no cell ${index} in a row of ${this.length}`);
    return this.isNull(index) ? null : this.bytes.subarray(this.start(index), this.end(index));
  }

  /**
   * The same cells with places of their own, for a row that is kept: it would keep alive the places of all rows that came
   * with it (measured: 1.1 GB of them beside 39 MB of kept rows).
   */
  toKeep(): Cells {
    return new Cells(this.bytes, this.length, this.at.slice(this.from, this.from + 2 * this.length), 0);
  }

  /** The same cells without the first ones. */
  after(count: number): Cells {
    return new Cells(this.bytes, this.length - count, this.at, this.from + 2 * count);
  }
}

/** What an UPDATE says of a TOASTed column it did not touch: nothing. It must be filled before it goes any further. */
export const UNCHANGED: unique symbol = Symbol('unchanged TOAST');

/** The cells of a change as the log has them: some may be holes, left by unchanged TOAST. */
export class Tuple extends Places {
  #holes = 0;

  static room(bytes: Buffer, length: number): Tuple {
    const { at, from } = reserve(length);
    return new Tuple(bytes, length, at, from);
  }

  get holes(): number {
    return this.#holes;
  }

  isHole(index: number): boolean {
    return this.start(index) === HOLE;
  }

  putHole(index: number): void {
    this.at[this.from + 2 * index] = HOLE;
    this.#holes++;
  }

  get(index: number): Buffer | null | typeof UNCHANGED {
    const start = this.start(index);
    return start === HOLE ? UNCHANGED : start === NULL ? null : this.bytes.subarray(start, this.end(index));
  }

  /** The row, where no cell is a hole. */
  whole(): Cells | undefined {
    return this.#holes === 0 ? new Cells(this.bytes, this.length, this.at, this.from) : undefined;
  }
}

/** Shorter than this a loop is quicker than a call into the runtime and the view that it needs. */
const SHORT = 48;

/** Copies source[start, end) to `at` and returns the place behind it. */
export function copyBytes(target: Uint8Array, at: number, source: Buffer, start: number, end: number): number {
  if (end - start > SHORT) {
    target.set(source.subarray(start, end), at);
    return at + end - start;
  }
  for (let from = start; from < end; from++) target[at++] = source[from]!;
  return at;
}
