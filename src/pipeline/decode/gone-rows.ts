import type { DeadLetter, TableName } from '../../core/contracts.ts';
import type { Lsn } from '../../core/lsn.ts';

/** A change that could not be completed, since nobody can see its row any more. */
export interface GoneRow {
  readonly table: TableName;
  readonly id: string;
  /** Commit LSN of the change. */
  readonly lsn: Lsn;
  /** The end of the WAL when the row was looked for: whatever took it away has committed below this. */
  readonly asOf: Lsn;
  /** What becomes of the change if the log does not explain it. */
  readonly letter: DeadLetter;
}

/** Some hundred bytes each. Beyond this the oldest are parked unexplained. */
const MOST = 20_000;

/**
 * Changes whose rows are gone, until the log says why. A delete of the row explains it, and so does any whole row that
 * comes for it: then the change needs no record of its own. A TRUNCATE under TRUNCATE_POLICY=ignore does not: the
 * document stays, and the change that was its last must be parked, or it would be lost without a trace.
 */
export class GoneRows {
  readonly #rows: Map<string, GoneRow>;

  constructor(rows: Iterable<[string, GoneRow]> = []) {
    this.#rows = new Map(rows);
  }

  get isEmpty(): boolean {
    return this.#rows.size === 0;
  }

  /** The slot must not be confirmed beyond the commit of this: the explanation is not in Kafka yet. null: nothing waits. */
  get since(): Lsn | null {
    let since: Lsn | null = null;
    for (const { lsn } of this.#rows.values()) if (since === null || lsn < since) since = lsn;
    return since;
  }

  /** So that a batch which is tried again begins from where it began. */
  copy(): GoneRows {
    return new GoneRows(this.#rows);
  }

  /** A later change of the same row takes the letter over; what waits, waits since the first. */
  add(row: GoneRow): void {
    const key = keyOf(row.table, row.id);
    const before = this.#rows.get(key);
    this.#rows.set(key, before ? { ...row, lsn: before.lsn } : row);
  }

  explained(table: TableName, id: string): void {
    this.#rows.delete(keyOf(table, id));
  }

  /** Takes out those of a table. */
  takeTable(table: TableName): GoneRow[] {
    const found = [...this.#rows.values()].filter((row) => row.table === table);
    this.remove(found);
    return found;
  }

  /** Those whose explanation should have come below `lsn`, and the oldest of those that are too many. */
  unexplained(lsn: Lsn): GoneRow[] {
    const surplus = this.#rows.size - MOST;
    return [...this.#rows.values()].filter(({ asOf }, i) => asOf <= lsn || i < surplus);
  }

  remove(rows: readonly GoneRow[]): void {
    for (const { table, id } of rows) this.#rows.delete(keyOf(table, id));
  }
}

function keyOf(table: TableName, id: string): string {
  return `${table}/${id}`;
}
