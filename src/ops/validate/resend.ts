import type pg from 'pg';
import type { Publisher, RowRecord, TableName } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import type { RowKey } from '../../core/row-key.ts';
import { takeBarrier } from '../../pipeline/backfill/barrier.ts';
import { lookUp, runVersion, type RunVersion } from '../../pipeline/backfill/chunk.ts';
import { ReadSession } from '../../pipeline/backfill/read-session.ts';
import { settle, type Known } from '../../pipeline/backfill/reread.ts';
import { describeTable, type TableSource } from '../../pipeline/backfill/table-source.ts';
import { toPgError } from '../../pipeline/capture/pg-connection.ts';
import type { RepairPort } from './repairer.ts';

export interface ResendOptions {
  readonly connect: () => Promise<pg.Client>;
  readonly schema: string;
  /** With a transactional.id of its own: a second repair fences the first. */
  readonly publisher: Publisher;
  /** The epoch that the stream writes in now. */
  readonly epoch: () => number;
  readonly deletePolicy: 'apply' | 'ignore';
  readonly barrierTimeoutMs: number;
  readonly signal: AbortSignal;
}

/** Rows of one Kafka transaction: it holds back the consumers of its partitions until it ends. */
const TOGETHER = 200;
const LIMIT_BYTES = 32 << 20;
const SETTLE_MS = 5000;
const ATTEMPTS = 5;

/**
 * Sends rows and tombstones as the backfill does: with the version below a barrier taken after the decision, so that the
 * stream's own records win, and each transaction committed only once what it says last of a row is what the table says.
 *
 * The session holds the backfill's shared lock, so cleanup-pg and a repair never run at once.
 */
export class Resend implements RepairPort {
  readonly #options: ResendOptions;
  #session: ReadSession | undefined;

  constructor(options: ResendOptions) {
    this.#options = options;
  }

  publishRows(table: TableName, ids: readonly string[]): Promise<number> {
    return coded(() => this.#publishRows(table, ids));
  }

  publishTombstones(table: TableName, keys: readonly RowKey[]): Promise<number> {
    return coded(() => this.#publishTombstones(table, keys));
  }

  async close(): Promise<void> {
    this.#session?.close();
    await this.#options.publisher.close();
  }

  async #publishRows(table: TableName, ids: readonly string[]): Promise<number> {
    const { source, run } = await this.#begin(table);
    let published = 0;
    let size = TOGETHER;
    for (let at = 0; at < ids.length; ) {
      const some = ids.slice(at, at + size);
      const rows = await lookUp(await this.#open(), source, some, run, some.length === 1 ? Number.POSITIVE_INFINITY : LIMIT_BYTES);
      if (rows === 'overflow') {
        size = Math.max(1, Math.floor(some.length / 4));
        continue;
      }
      const known = [...rows].map(([id, row]): Known => ({ id, row }));
      await this.#publish(source, run, [...rows.values()].map(({ record }) => record), known);
      published += rows.size;
      at += some.length;
    }
    return published;
  }

  async #publishTombstones(table: TableName, keys: readonly RowKey[]): Promise<number> {
    const { source, run } = await this.#begin(table);
    for (let at = 0; at < keys.length; at += TOGETHER) {
      const some = keys.slice(at, at + TOGETHER);
      const records = some.map((key): RowRecord => ({ table, key, version: run.version, op: 'delete', lsn: run.lsn, timeMs: Date.now(), row: null }));
      // `row: null` says that the log ends with a tombstone: a row that is there is published behind it
      await this.#publish(source, run, records, some.map(({ id }) => ({ id, row: null })));
    }
    return keys.length;
  }

  async #begin(table: TableName): Promise<{ source: TableSource; run: RunVersion }> {
    const { schema, barrierTimeoutMs, signal, epoch } = this.#options;
    const session = await this.#open();
    const found = await describeTable(session, schema, table);
    if (!found) throw new DifyEsError('TABLE_UNSUITABLE', `${table} is gone`);
    const barrier = await takeBarrier(session, { timeoutMs: barrierTimeoutMs, signal });
    return { source: found.source, run: runVersion(epoch(), barrier) };
  }

  /** One transaction; tried again when rows keep moving in it. */
  async #publish(source: TableSource, run: RunVersion, records: readonly RowRecord[], known: readonly Known[]): Promise<void> {
    if (records.length === 0) return;
    const { publisher, deletePolicy, signal } = this.#options;
    for (let attempt = 1; ; attempt++) {
      signal.throwIfAborted();
      const transaction = await publisher.begin();
      try {
        await transaction.send(records);
        const outcome = await settle(known, {
          session: () => this.#open(),
          source, run, deletePolicy,
          limitBytes: LIMIT_BYTES,
          send: (more) => transaction.send(more),
          deadline: Date.now() + SETTLE_MS,
        });
        if (outcome === 'changed') throw new DifyEsError('TABLE_UNSUITABLE', `${source.name} was rewritten, truncated or altered during the repair`);
        if (outcome === 'settled') return await transaction.commit();
        if (attempt === ATTEMPTS) throw new DifyEsError('ANSWER_NO', `rows of ${source.name} changed without end: run the repair again`);
        await transaction.abort();
      } catch (error) {
        await transaction.abort();
        throw error;
      }
    }
  }

  async #open(): Promise<ReadSession> {
    if (!this.#session || this.#session.dead) this.#session = await ReadSession.open(this.#options.connect);
    return this.#session;
  }
}

/** What node-postgres throws gets a code; Kafka's side has one already. */
async function coded<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw toPgError(error, 'query');
  }
}
