import type { DeadLetter, FetchRows, LoggedChange, MadeRecords, RowRecord } from '../../core/contracts.ts';
import type { Lsn } from '../../core/lsn.ts';
import { GoneRows, type GoneRow } from './gone-rows.ts';
import { idOf } from './key-columns.ts';
import { recordsOf, type RecordRules } from './to-records.ts';
import { isGone, WholeRows, type WholeChange } from './whole-rows.ts';

export interface RecordMakerOptions {
  /** Bytes of rows kept to fill unchanged TOAST with. 0: every hole is a SELECT. */
  readonly cacheBytes: number;
  /** Under `ignore` a TRUNCATE leaves the documents, and changes that it made impossible to complete are parked. */
  readonly truncatePolicy: 'ignore' | 'apply';
  readonly fetchRows: FetchRows;
}

/** Batches of the log in, records out: holes filled first, then turned into records. One for each connection. */
export class RecordMaker {
  readonly #rows: WholeRows;
  readonly #options: RecordMakerOptions;
  #batch: readonly LoggedChange[] | undefined;
  /** As it was before the batch at hand, and as the batch leaves it. */
  #goneBefore = new GoneRows();
  #gone = new GoneRows();

  constructor(options: RecordMakerOptions) {
    this.#rows = new WholeRows(options.cacheBytes);
    this.#options = options;
  }

  /** Before a batch is tried again. */
  forget(): void {
    this.#rows.forget();
  }

  /** Commit LSN of the oldest change that waits for its explanation: the slot must not be confirmed beyond it. */
  get waitingSince(): Lsn | null {
    return this.#gone.since;
  }

  /** Changes that the log has not explained up to `lsn`: to be parked, and then told to `parked`. */
  unexplained(lsn: Lsn): readonly GoneRow[] {
    return this.#gone.unexplained(lsn);
  }

  parked(rows: readonly GoneRow[]): void {
    this.#gone.remove(rows);
  }

  /**
   * The records of a batch in their order, of each key the last in its slice, in slices: send one before asking for the next, so that the rows fetched
   * for only one slice are in memory. The transactions of the batch must be visible to other sessions by now. Called
   * again with the same array, it makes the same again.
   */
  async *make(batch: readonly LoggedChange[], rules: RecordRules): AsyncGenerator<MadeRecords> {
    if (batch !== this.#batch) this.#goneBefore = this.#gone;
    this.#batch = batch;
    const gone = (this.#gone = this.#goneBefore.copy());
    for await (const slice of this.#rows.complete(batch, this.#options.fetchRows)) {
      const records: RowRecord[] = [];
      const letters: DeadLetter[] = [];
      for (const change of slice) {
        const made = recordsOf(change, rules);
        for (const record of made.records) records.push(record);
        letters.push(...made.letters);
        if (made.waits || !gone.isEmpty) note(gone, change, made.waits);
      }
      yield { records: lastOfEachKey(records), letters };
    }
    const truncated = batch.flatMap(({ message }) => (message.kind === 'truncate' ? message.relations.map(({ shape }) => shape.table) : []));
    const letters = truncated.flatMap((table) => gone.takeTable(table)).map(({ letter }) => letter);
    if (letters.length > 0 && this.#options.truncatePolicy === 'ignore') yield { records: [], letters };
  }
}

/**
 * Of several records of one key the last one, where that stood. They would be committed together, so no reader of the
 * topic could ever see the others as the newest; and Dify writes a row three times within seconds. The last record of
 * every key stays, in the order of the log, and so does the last of every document (docs/decisions/0014).
 */
function lastOfEachKey(records: readonly RowRecord[]): readonly RowRecord[] {
  const last = new Map<string, RowRecord>();
  for (const record of records) {
    const { id, tenantId, createdAt } = record.key;
    const name = `${record.table} ${id} ${tenantId} ${createdAt}`;
    last.delete(name);
    last.set(name, record);
  }
  return last.size === records.length ? records : [...last.values()];
}

function note(gone: GoneRows, { change, row, transaction }: WholeChange, letter: DeadLetter | null): void {
  const { shape } = change.relation;
  const former = change.kind !== 'insert' && change.old.kind !== 'absent' ? idOf(shape, change.old.cells) : undefined;
  if (former !== undefined) gone.explained(shape.table, former);
  const id = change.kind === 'delete' ? undefined : idOf(shape, change.tuple);
  if (id === undefined) return;
  if (letter && isGone(row)) gone.add({ table: shape.table, id, lsn: transaction.commitLsn, asOf: row.goneAsOf, letter });
  else gone.explained(shape.table, id);
}
