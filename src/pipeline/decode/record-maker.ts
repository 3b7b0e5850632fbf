import type { DeadLetter, FetchRows, LoggedChange, MadeRecords, RowRecord } from '../../core/contracts.ts';
import { recordsOf, type RecordRules } from './to-records.ts';
import { WholeRows } from './whole-rows.ts';

export interface RecordMakerOptions {
  /** Bytes of rows kept to fill unchanged TOAST with. 0: every hole is a SELECT. */
  readonly cacheBytes: number;
  readonly fetchRows: FetchRows;
}

/** Batches of the log in, records out: holes filled first, then turned into records. One for each reader. */
export class RecordMaker {
  readonly #rows: WholeRows;
  readonly #fetchRows: FetchRows;

  constructor(options: RecordMakerOptions) {
    this.#rows = new WholeRows(options.cacheBytes);
    this.#fetchRows = options.fetchRows;
  }

  /** After a new connection, or before a batch is tried again. */
  forget(): void {
    this.#rows.forget();
  }

  /**
   * The records of a batch in their order, in slices: send one before asking for the next, so that the rows fetched
   * for only one slice are in memory. The transactions of the batch must be visible to other sessions by now.
   */
  async *make(batch: readonly LoggedChange[], rules: RecordRules): AsyncGenerator<MadeRecords> {
    for await (const slice of this.#rows.complete(batch, this.#fetchRows)) {
      const records: RowRecord[] = [];
      const letters: DeadLetter[] = [];
      for (const change of slice) {
        const made = recordsOf(change, rules);
        records.push(...made.records);
        letters.push(...made.letters);
      }
      yield { records, letters };
    }
  }
}
