import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeRecords, Publisher, PublishTransaction } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { formatLsn, LSN_ZERO, parseLsn, type Lsn } from '../../core/lsn.ts';
import { stateKeys, type EpochRecord } from '../../core/state.ts';
import { Batcher, relationsOf, transactionsOf, type Batch } from './batch.ts';
import { ConfirmedLsn } from './confirmed-lsn.ts';
import { KnownCommit } from './known-commit.ts';
import type { Queryable } from './pg-connection.ts';
import { inTransaction } from './publish.ts';
import type { PublishWork, RecordSource, StreamContext } from './stream-contract.ts';
import { waitUntilVisible } from './visibility.ts';
import type { WalEvent, WalReader } from './wal-reader.ts';

/** What outlives a session: the counters, and the wish to stop. */
export interface SessionShared {
  transactions: number;
  records: number;
  deadLetters: number;
  lastCommitTimeMs: number | null;
  /** No new batch is begun once this is aborted. */
  readonly stop: AbortSignal;
  /** What is in flight is abandoned once this is aborted. */
  readonly giveUp: AbortSignal;
}

export interface SessionParts {
  readonly db: Queryable;
  readonly reader: WalReader;
  readonly publisher: Publisher;
  readonly recordSource: RecordSource;
  readonly epoch: EpochRecord;
  readonly slotConfirmed: Lsn;
  /** The source turned out to be another branch of itself: records the next epoch and what it requires. */
  readonly renewEpoch: (recorded: EpochRecord) => Promise<EpochRecord>;
}

const IDLE_WAIT_MS = 100;

/**
 * One connection's stream of changes into Kafka: gather, wait until visible, publish, confirm. One thing at a time, so
 * that the order of the records is the order of the log; while a batch is on its way the reader buffers the next one,
 * and so batches grow by themselves when there is much to do.
 */
export class StreamSession {
  readonly #context: StreamContext;
  readonly #shared: SessionShared;
  readonly #parts: SessionParts;
  readonly #confirmed: ConfirmedLsn;
  readonly #batcher: Batcher;
  readonly #known: KnownCommit;
  #lastCommit: EpochRecord['lastCommit'];
  #batchBeganAt = 0;
  #position = LSN_ZERO;
  #highWater: Lsn;
  #highWaterAt = Number.NEGATIVE_INFINITY;
  #epoch: EpochRecord;

  constructor(context: StreamContext, shared: SessionShared, parts: SessionParts) {
    this.#context = context;
    this.#shared = shared;
    this.#parts = parts;
    this.#epoch = parts.epoch;
    // Above the slot when the server went back to an older position of it, as after a crash: the mark never falls.
    this.#highWater = parseLsn(parts.epoch.highWaterLsn);
    this.#known = new KnownCommit(parts.epoch.lastCommit, parts.slotConfirmed);
    this.#lastCommit = parts.epoch.lastCommit;
    this.#confirmed = new ConfirmedLsn({ start: parts.slotConfirmed, holdMs: context.options.holdMs });
    this.#batcher = new Batcher(context.options.batch);
  }

  /** Returns after a stop, with everything confirmed that could be. Throws when PostgreSQL is lost or an error is final. */
  async run(): Promise<void> {
    const { reader } = this.#parts;
    while (!this.#shared.stop.aborted) {
      this.#gather();
      if (this.#known.isMissing) await this.#renewEpoch();
      if (this.#batchIsDue()) {
        await this.#publish(this.#batcher.take());
        continue;
      }
      if (this.#batcher.isEmpty) await this.#parkUnexplained(this.#position);
      await this.#confirm(false);
      this.#report();
      if (reader.isEmpty) await reader.wait(this.#batcher.isEmpty ? IDLE_WAIT_MS : this.#context.options.batch.maxDelayMs);
    }
    await this.#finish();
  }

  #gather(): void {
    const { reader } = this.#parts;
    if (this.#batcher.isEmpty) this.#batchBeganAt = performance.now();
    for (;;) {
      const event = reader.peek();
      // A commit at hand still belongs to the batch that ends its transaction, which can be confirmed with it.
      if (!event || (this.#batcher.isFull && !isCommit(event))) return;
      reader.shift();
      if ('position' in event) {
        this.#known.position(event.position);
        this.#confirmed.position(event.position);
        this.#position = event.position;
        continue;
      }
      const { message } = event;
      if (message.kind === 'begin') this.#confirmed.began();
      else if (message.kind === 'commit') {
        this.#known.commit(message.endLsn, message.commitTimeMs);
        this.#confirmed.committed(message.endLsn);
      }
      this.#batcher.add(message, event.bytes);
    }
  }

  /**
   * What was published since this session began has versions of the former epoch and may lie below documents of the
   * branch that is gone; the full backfill that is required now writes above both.
   */
  async #renewEpoch(): Promise<void> {
    this.#epoch = await this.#parts.renewEpoch(this.#epoch);
    this.#highWater = parseLsn(this.#epoch.highWaterLsn);
    this.#lastCommit = undefined;
    this.#known.forget();
  }

  /** At a commit with nothing more at hand at once: under load more is at hand, and the batch fills. */
  #batchIsDue(): boolean {
    if (this.#batcher.isEmpty) return false;
    if (this.#batcher.isFull) return true;
    if (this.#batcher.atBoundary && this.#parts.reader.isEmpty) return true;
    return performance.now() - this.#batchBeganAt >= this.#context.options.batch.maxDelayMs;
  }

  async #publish(batch: Batch): Promise<void> {
    const { hooks, options } = this.#context;
    const transactions = transactionsOf(batch);
    for (const { relation, commitLsn } of relationsOf(batch)) await hooks.onRelation?.(relation, commitLsn);
    if (transactions.length > 0) {
      const xids = transactions.map(({ xid }) => xid);
      await waitUntilVisible(this.#parts.db, xids, { timeoutMs: options.visibilityTimeoutMs, signal: this.#shared.giveUp });
    }
    if (transactions.length > 0) await this.#publishRows(batch);
    for (const { message, transaction } of batch.changes) if (message.kind === 'truncate') await hooks.onTruncate?.(message.relations, transaction, this.#inTransaction);
    this.#confirmed.waitAt(this.#parts.recordSource.waitingSince);
    if (batch.lastCommit) {
      await this.#parkUnexplained(batch.lastCommit.endLsn);
      this.#confirmed.durable(batch.lastCommit.endLsn, performance.now());
      this.#shared.lastCommitTimeMs = batch.lastCommit.commitTimeMs;
    }
    this.#shared.transactions += batch.commits;
    await this.#confirm(false);
    this.#report();
  }

  /**
   * In one transaction, or in several where the holes of thousands of wide rows must be fetched: that may take minutes,
   * and Kafka ends a transaction after its timeout. After a failure all of it is made again, so what an earlier of them
   * has published comes a second time, as after a crash; and then each has one slice, whose rows are fetched before its
   * first send: one that takes long to fetch outlives a transaction that has begun with another, again and again.
   */
  async #publishRows(batch: Batch): Promise<void> {
    const { recordSource } = this.#parts;
    const { deletePolicy, transactionMs } = this.#context.options;
    const announced = await this.#announcedCleanups(batch);
    const make = (): AsyncIterator<MadeRecords> =>
      recordSource.make(batch.changes, { epoch: this.#epoch.epoch, deletePolicy, isAnnouncedCleanup: (runId) => announced.has(runId) })[Symbol.asyncIterator]();
    let slices = make();
    let limitMs = transactionMs;
    let [records, letters] = [0, 0];
    let highWater: Lsn | null = null;
    if (batch.lastCommit) this.#lastCommit = { endLsn: formatLsn(batch.lastCommit.endLsn), timeMs: batch.lastCommit.commitTimeMs };
    for (let isDone = false; !isDone; ) {
      let again = false;
      await this.#inTransaction(async (transaction) => {
        if (again) {
          // What was seen in the former attempt lies in the future of this one.
          recordSource.forget();
          slices = make();
          limitMs = 0;
          records = letters = 0;
        }
        again = true;
        const until = performance.now() + limitMs;
        do {
          const { done, value: made } = await slices.next();
          isDone = done === true;
          if (isDone) break;
          if (made.records.length > 0) await transaction.send(made.records);
          if (made.letters.length > 0) await transaction.park(made.letters);
          records += made.records.length;
          letters += made.letters.length;
        } while (performance.now() < until);
        highWater = isDone && batch.lastCommit && batch.lastCommit.endLsn > this.#highWater && this.#highWaterIsDue() ? batch.lastCommit.endLsn : null;
        if (highWater !== null) await this.#putHighWater(transaction, highWater);
      });
    }
    if (highWater !== null) this.#highWaterRecorded(highWater);
    this.#shared.records += records;
    this.#shared.deadLetters += letters;
  }

  /** Everything that the log holds below `lsn` is in Kafka, and these changes are still not explained by it. */
  async #parkUnexplained(lsn: Lsn): Promise<void> {
    const { recordSource } = this.#parts;
    if (recordSource.waitingSince === null) return;
    const changes = recordSource.unexplained(lsn);
    if (changes.length === 0) return;
    await this.#inTransaction((transaction) => transaction.park(changes.map(({ letter }) => letter)));
    recordSource.parked(changes);
    this.#shared.deadLetters += changes.length;
    this.#confirmed.waitAt(recordSource.waitingSince);
  }

  async #announcedCleanups(batch: Batch): Promise<Set<string>> {
    const announced = new Set<string>();
    const marked = new Set(batch.changes.flatMap(({ transaction }) => transaction.cleanupRunId ?? []));
    for (const runId of marked) {
      if (await this.#context.parts.isAnnouncedCleanup(runId)) announced.add(runId);
      else this.#context.log.warn({ runId }, 'a transaction carries the marker of a clean-up that nobody announced; its deletes count as any others');
    }
    return announced;
  }

  /**
   * After the transactions are committed in Kafka and the high-water mark is, and before anything else: a mark below
   * the slot would look at the next start as if somebody else had moved it.
   */
  async #confirm(atOnce: boolean): Promise<void> {
    const lsn = this.#confirmed.confirmable(performance.now());
    if (lsn === null) return;
    if (lsn > this.#highWater) {
      if (!atOnce && !this.#highWaterIsDue()) return;
      await this.#inTransaction((transaction) => this.#putHighWater(transaction, lsn));
      this.#highWaterRecorded(lsn);
    }
    crashPoint('stream.high-water-recorded');
    this.#parts.reader.confirm(lsn);
    this.#confirmed.told(lsn);
    crashPoint('stream.slot-confirmed');
  }

  #highWaterIsDue(): boolean {
    return performance.now() - this.#highWaterAt >= this.#context.options.confirmEveryMs;
  }

  /** In the stream's own transaction, so that a reader which was stopped and wakes up cannot set the mark back. */
  async #putHighWater(transaction: PublishTransaction, lsn: Lsn): Promise<void> {
    this.#epoch = { ...this.#epoch, highWaterLsn: formatLsn(lsn), ...(this.#lastCommit ? { lastCommit: this.#lastCommit } : {}), at: new Date().toISOString() };
    await transaction.putControl(stateKeys.epoch, this.#epoch);
  }

  #highWaterRecorded(lsn: Lsn): void {
    this.#highWater = lsn;
    this.#highWaterAt = performance.now();
    this.#context.hooks.onEpochRecorded?.(this.#epoch);
  }

  readonly #inTransaction: PublishWork = async (work) => {
    const { publisher, reader, db } = this.#parts;
    const assertStillOurs = async (): Promise<void> => void (await reader.assertSlotHeld(db));
    await inTransaction(publisher, work, { assertStillOurs, retry: this.#context.options.retry, giveUp: this.#shared.giveUp, log: this.#context.log });
  };

  /** What is gathered is published, what is held back is waited for as long as there is time. */
  async #finish(): Promise<void> {
    if (!this.#batcher.isEmpty) await this.#publish(this.#batcher.take());
    await this.#confirm(true);
    while (this.#confirmed.isOutstanding) {
      await sleep(50, undefined, { signal: this.#shared.giveUp });
      await this.#confirm(true);
    }
    this.#report();
  }

  #report(): void {
    const { reader } = this.#parts;
    const { transactions, records, deadLetters, lastCommitTimeMs } = this.#shared;
    this.#context.hooks.onProgress?.({
      connected: true, epoch: this.#epoch.epoch, receivedLsn: reader.received, confirmedLsn: reader.confirmed,
      transactions, records, deadLetters, lastCommitTimeMs, bufferedBytes: reader.bufferedBytes,
    });
  }
}

function isCommit(event: WalEvent): boolean {
  return 'message' in event && event.message.kind === 'commit';
}
