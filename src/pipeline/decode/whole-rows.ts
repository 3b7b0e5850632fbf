import { Cells, type Tuple, UNCHANGED } from '../../core/cells.ts';
import type { Cell, FetchedRows, FetchRows, LoggedChange, LoggedTransaction, OldTuple, Relation, Row, RowChange, RowShape } from '../../core/contracts.ts';
import { LSN_ZERO, type Lsn } from '../../core/lsn.ts';
import { idOf } from './key-columns.ts';
import { RowCache } from './row-cache.ts';

/** A change whose new row has no hole left. */
export interface WholeChange {
  readonly transaction: LoggedTransaction;
  readonly change: RowChange;
  /** null for a delete. */
  readonly row: Row | Gone | null;
}

/** A hole could not be filled, since nobody could see the row any more when the WAL ended at `goneAsOf`. */
export interface Gone {
  readonly goneAsOf: Lsn;
}

export function isGone(row: WholeChange['row']): row is Gone {
  return row !== null && 'goneAsOf' in row;
}

type Fetched = Map<Relation, FetchedRows>;

/**
 * Fills unchanged TOAST columns: from the old tuple where the log has it (REPLICA IDENTITY FULL), else from the rows
 * just seen, else by a SELECT for all holes of the batch.
 *
 * A fetched value may be newer than the change it completes: the change that set it comes later in the log and is
 * published after this one. For the same reason a row found under another tenant or month still fills: the move comes.
 * Such a value is used once and not kept. All of that holds only for transactions that other sessions can see, so wait for them before calling.
 */
export class WholeRows {
  readonly #seen: RowCache;
  /** Shapes without the columns that a table no longer has: one object for each, since encoders know shapes by identity. */
  readonly #narrowed = new WeakMap<RowShape, Map<string, RowShape>>();

  constructor(cacheBytes: number) {
    this.#seen = new RowCache(cacheBytes);
  }

  /** After a new connection, or before a batch is tried again. */
  forget(): void {
    this.#seen.clear();
  }

  /**
   * The changes of a batch in their order, in one slice or more: a slice ends where further rows must be fetched, so
   * that the fetched rows of only one slice are in memory.
   */
  async *complete(batch: readonly LoggedChange[], fetch: FetchRows): AsyncGenerator<WholeChange[]> {
    let slice: WholeChange[] = [];
    const fetched: Fetched = new Map();
    for (let i = 0; i < batch.length; i++) {
      const { transaction, message } = batch[i]!;
      if (message.kind === 'truncate') for (const relation of message.relations) this.#seen.dropTable(relation.oid);
      if (message.kind === 'truncate' || message.kind === 'relation') continue;
      let row = this.#wholeRow(message, fetched);
      if (row === 'unknown') {
        if (slice.length > 0) yield slice;
        slice = [];
        fetched.delete(message.relation);
        fetched.set(message.relation, await this.#fetchAhead(batch, i, fetch));
        row = this.#wholeRow(message, fetched);
        // The answer is for the first id at least, and that is this row's.
        if (row === 'unknown') row = { goneAsOf: fetched.get(message.relation)!.asOf };
      }
      slice.push({ transaction, change: message, row });
    }
    if (slice.length > 0) yield slice;
  }

  #wholeRow(change: RowChange, fetched: Fetched): Row | Gone | 'unknown' | null {
    const { relation } = change;
    const { shape } = relation;
    if (change.kind === 'delete') {
      this.#dropOld(relation, change.old);
      return null;
    }
    const id = idOf(shape, change.tuple);
    const logged = change.tuple.whole() ?? this.#fromLog(change, id);
    const row = logged ? { shape, cells: logged } : this.#fromTable(change, id, fetched);
    if (row === 'unknown') return row;
    if (change.kind === 'update') this.#dropOld(relation, change.old);
    if (id === undefined) return row;
    // A fetched value is not kept: by now another row may have the id, and a change of id would carry it over to a row
    // for which nothing later in the log puts it right. Under FULL the log itself has the old row; and a cell here would
    // keep the whole message, old row and all, in memory.
    if (logged && relation.replicaIdentity !== 'full') this.#seen.put(relation, id, logged);
    else this.#seen.drop(relation, id);
    return row;
  }

  #fromLog(change: Exclude<RowChange, { kind: 'delete' }>, id: string | undefined): Cells | undefined {
    const { relation, tuple } = change;
    const old = change.kind === 'update' ? change.old : undefined;
    const cells = old?.kind === 'full' ? Cells.filled(tuple, old.cells) : undefined;
    if (cells || id === undefined) return cells;
    const formerId = old && old.kind !== 'absent' ? idOf(relation.shape, old.cells) : undefined;
    const seen = this.#seen.get(relation, formerId ?? id);
    return seen && Cells.filled(tuple, seen);
  }

  #fromTable({ relation, tuple }: Exclude<RowChange, { kind: 'delete' }>, id: string | undefined, fetched: Fetched): Row | Gone | 'unknown' {
    if (id === undefined) return { goneAsOf: LSN_ZERO };
    const answer = fetched.get(relation);
    const found = answer?.rows.get(id);
    if (!answer || found === undefined) return 'unknown';
    return found === null ? { goneAsOf: answer.asOf } : this.#fillFetched(relation.shape, tuple, answer.columns, found);
  }

  /** A column that the table lost since the change is left out of the row: its value is nowhere any more. */
  #fillFetched(shape: RowShape, tuple: Tuple, columns: readonly string[], found: readonly Cell[]): Row {
    const cells: Cell[] = [];
    const lost: string[] = [];
    shape.columns.forEach((column, i) => {
      const cell = tuple.get(i);
      if (cell !== UNCHANGED) return void cells.push(cell);
      const at = columns.indexOf(column);
      if (at < 0) lost.push(column);
      else cells.push(found[at]!);
    });
    return { shape: lost.length > 0 ? this.#without(shape, lost) : shape, cells: Cells.of(cells) };
  }

  #without(shape: RowShape, lost: readonly string[]): RowShape {
    let shapes = this.#narrowed.get(shape);
    if (!shapes) this.#narrowed.set(shape, (shapes = new Map()));
    const key = lost.join('\0');
    let narrowed = shapes.get(key);
    if (!narrowed) shapes.set(key, (narrowed = { table: shape.table, columns: shape.columns.filter((column) => !lost.includes(column)) }));
    return narrowed;
  }

  #dropOld(relation: Relation, old: OldTuple): void {
    if (old.kind === 'absent') return;
    const id = idOf(relation.shape, old.cells);
    if (id !== undefined) this.#seen.drop(relation, id);
  }

  /** One question for this hole and all that follow it in the batch on the same table, this row first. */
  async #fetchAhead(batch: readonly LoggedChange[], from: number, fetch: FetchRows): Promise<FetchedRows> {
    const relation = (batch[from]!.message as RowChange).relation;
    const wanted = new Set<string>();
    const columns = new Set<number>();
    const comesWhole = new Set<string>();
    for (let i = from; i < batch.length; i++) {
      const { message } = batch[i]!;
      if (message.kind !== 'update' && message.kind !== 'insert') continue;
      const id = message.relation === relation ? idOf(relation.shape, message.tuple) : undefined;
      if (id === undefined) continue;
      // Of every row, also of those not asked for: one may fall out of the cache until it is needed, and a column that
      // was not asked for looks like one that the table has lost.
      for (let at = 0; message.tuple.holes > 0 && at < message.tuple.length; at++) if (message.tuple.isHole(at)) columns.add(at);
      if (message.tuple.holes === 0) comesWhole.add(id);
      else if (i === from || (!comesWhole.has(id) && !this.#seen.get(relation, id))) wanted.add(id);
    }
    const names = [...columns].map((at) => relation.shape.columns[at]!);
    return fetch(relation, [...wanted], names);
  }
}
