import type { Cells } from '../../core/cells.ts';
import type { Relation } from '../../core/contracts.ts';

interface Entry {
  readonly relation: Relation;
  readonly cells: Cells;
  readonly bytes: number;
}

/**
 * A value goes out of line only in a row of more than about 2 kB (TOAST_TUPLE_THRESHOLD); of a smaller row nothing can
 * arrive as unchanged TOAST. Were the threshold lowered for a table, its rows are fetched instead: slower, still right.
 */
const SMALLEST_WORTH_KEEPING = 1_024;

/** What V8 takes beside the bytes: entry, key, buffer and array of a row, and the place of each cell. */
const OVERHEAD = { cell: 8, row: 600 } as const;

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
  get(relation: Relation, id: string): Cells | undefined {
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
  put(relation: Relation, id: string, cells: Cells): void {
    const key = keyOf(relation, id);
    this.#forget(key);
    // The whole message is kept alive, not the cells alone.
    const bytes = cells.bytes.length + OVERHEAD.row + cells.length * OVERHEAD.cell;
    if (cells.bytes.length >= SMALLEST_WORTH_KEEPING && bytes <= this.#limit / 2) this.#keep(key, { relation, cells: cells.toKeep(), bytes });
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
