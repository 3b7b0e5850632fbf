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
 * Rows the log has just shown, whole, so that the UPDATE which ends a run finds its graph here and not by a SELECT.
 * Bounded in bytes; the rows not touched for longest go first.
 */
export class RowCache {
  readonly #limit: number;
  #bytes = 0;
  /** In the order of last touch. */
  readonly #entries = new Map<string, Entry>();

  constructor(limitBytes: number) {
    this.#limit = limitBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Undefined also when the table was announced anew since: a column of this name may be another one by now. */
  get(relation: Relation, id: string): readonly Cell[] | undefined {
    const key = keyOf(relation, id);
    const entry = this.#entries.get(key);
    if (!entry || entry.relation !== relation) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.cells;
  }

  /** Replaces what is known of the row. */
  put(relation: Relation, id: string, cells: readonly Cell[]): void {
    this.drop(relation, id);
    let bytes = 0;
    for (const cell of cells) bytes += cell?.length ?? 0;
    if (bytes < SMALLEST_WORTH_KEEPING || bytes > this.#limit) return;
    this.#entries.set(keyOf(relation, id), { relation, cells, bytes });
    this.#bytes += bytes;
    for (const [oldest, entry] of this.#entries) {
      if (this.#bytes <= this.#limit) return;
      this.#entries.delete(oldest);
      this.#bytes -= entry.bytes;
    }
  }

  drop(relation: Relation, id: string): void {
    const key = keyOf(relation, id);
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }

  dropTable(oid: number): void {
    for (const [key, entry] of this.#entries) {
      if (entry.relation.oid !== oid) continue;
      this.#entries.delete(key);
      this.#bytes -= entry.bytes;
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }
}

function keyOf(relation: Relation, id: string): string {
  return `${relation.oid}/${id}`;
}
