import type { Cell, Relation } from '../../core/contracts.ts';

interface Entry {
  readonly relation: Relation;
  readonly cells: readonly Cell[];
  readonly bytes: number;
}

/**
 * A value goes out of line only in a row of more than about 2 kB (TOAST_TUPLE_THRESHOLD); of a smaller row nothing can
 * arrive as unchanged TOAST. Were the threshold lowered for a table, its rows are fetched instead: slower, still right.
 */
const SMALLEST_WORTH_KEEPING = 1_024;

/**
 * What V8 takes beside the bytes: a Buffer object for each cell, entry and key for each row. Measured with 21 cells of
 * 52 bytes: 64 MB of bytes took 209 MB, which is why the limit has to count it.
 */
const OVERHEAD = { cell: 115, row: 250 } as const;

/**
 * Rows the log has just shown, whole, so that the UPDATE which ends a run finds its graph here and not by a SELECT.
 *
 * Two generations of half the bytes each: when the younger one is full, the elder goes as a whole, and what was asked
 * for since has moved to the younger. Taking the oldest entries one by one out of a Map cost a fifth of the reader's
 * CPU, since its iterator walks over all that was deleted before.
 */
export class RowCache {
  readonly #limit: number;
  #young = new Map<string, Entry>();
  #elder = new Map<string, Entry>();
  #youngBytes = 0;
  #elderBytes = 0;

  constructor(limitBytes: number) {
    this.#limit = limitBytes;
  }

  get bytes(): number {
    return this.#youngBytes + this.#elderBytes;
  }

  /** Undefined also when the table was announced anew since: a column of this name may be another one by now. */
  get(relation: Relation, id: string): readonly Cell[] | undefined {
    const key = keyOf(relation, id);
    const young = this.#young.get(key);
    const entry = young ?? this.#elder.get(key);
    if (!entry || entry.relation !== relation) return undefined;
    if (!young) {
      this.#forget(key);
      this.#keep(key, entry);
    }
    return entry.cells;
  }

  /** Replaces what is known of the row. */
  put(relation: Relation, id: string, cells: readonly Cell[]): void {
    const key = keyOf(relation, id);
    this.#forget(key);
    let content = 0;
    for (const cell of cells) if (cell) content += cell.length;
    const bytes = content + OVERHEAD.row + cells.length * OVERHEAD.cell;
    if (content >= SMALLEST_WORTH_KEEPING && bytes <= this.#limit / 2) this.#keep(key, { relation, cells, bytes });
  }

  drop(relation: Relation, id: string): void {
    this.#forget(keyOf(relation, id));
  }

  dropTable(oid: number): void {
    for (const generation of [this.#young, this.#elder]) {
      for (const [key, entry] of generation) if (entry.relation.oid === oid) this.#forget(key);
    }
  }

  clear(): void {
    this.#young.clear();
    this.#elder.clear();
    this.#youngBytes = this.#elderBytes = 0;
  }

  #keep(key: string, entry: Entry): void {
    if (this.#youngBytes + entry.bytes > this.#limit / 2) {
      this.#elder = this.#young;
      this.#elderBytes = this.#youngBytes;
      this.#young = new Map();
      this.#youngBytes = 0;
    }
    this.#young.set(key, entry);
    this.#youngBytes += entry.bytes;
  }

  #forget(key: string): void {
    const young = this.#young.get(key);
    if (young) {
      this.#young.delete(key);
      this.#youngBytes -= young.bytes;
    }
    const elder = this.#elder.get(key);
    if (elder) {
      this.#elder.delete(key);
      this.#elderBytes -= elder.bytes;
    }
  }
}

function keyOf(relation: Relation, id: string): string {
  return `${relation.oid}/${id}`;
}
