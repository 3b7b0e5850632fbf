import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Publisher } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError, type ErrorCode } from '../../core/errors.ts';
import { stateKeys, type EpochRecord } from '../../core/state.ts';
import { decideEpoch, epochRecord, outgrownEpoch, type EpochDecision, type ObservedSource } from './epoch.ts';
import { LOOKUP_SETTINGS, rowFetcher } from './fetch-rows.ts';
import { applicationName, openPool } from './pg-connection.ts';
import { inTransaction } from './publish.ts';
import { inspectSlot, requirePublication, usableSlot } from './slot.ts';
import type { StreamContext } from './stream-contract.ts';
import { StreamSession, type SessionShared } from './stream-session.ts';
import { refuseSyncStandby } from './sync-standby.ts';
import { WalReader } from './wal-reader.ts';

const ROLE = 'stream';
/** Waited out, since they pass: a server that restarts (of Elasticsearch an applied TRUNCATE asks), a reader that still holds the slot. */
const PASSING: ReadonlySet<ErrorCode> = new Set(['PG_UNREACHABLE', 'PG_TLS', 'PG_SLOT_BUSY', 'KAFKA_UNREACHABLE', 'ES_UNREACHABLE']);
const SAY_AGAIN_MS = 30_000;
/** A server that does not answer must not keep the process from ending. */
const CLOSE_LIMIT_MS = 1_500;

/**
 * The reader: streams the slot into Kafka until it is stopped.
 *
 * Each connection begins from nothing: checks, slot, publisher, epoch. What was read on the connection before and is
 * not confirmed comes again from the slot, with the same versions.
 */
export class StreamLoop {
  readonly #context: StreamContext;
  readonly #stop = new AbortController();
  readonly #giveUp = new AbortController();
  readonly #shared: SessionShared;
  #running: Promise<void> | undefined;
  #reader: WalReader | undefined;
  #hasRun = false;

  constructor(context: StreamContext) {
    this.#context = context;
    this.#shared = { transactions: 0, records: 0, deadLetters: 0, lastCommitTimeMs: null, stop: this.#stop.signal, giveUp: this.#giveUp.signal };
  }

  /**
   * Returns after `stop`. Throws a DifyEsError that ends the process: a server that cannot be reached at the start, and
   * later only what does not pass (PG_SLOT_LOST, KAFKA_FENCED, PG_NOT_VISIBLE, PG_SYNC_STANDBY, …).
   */
  run(): Promise<void> {
    return (this.#running ??= this.#run());
  }

  /** Publishes what is gathered, confirms it and closes; what does not get there in time comes again at the next start. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#reader?.wake();
    const timer = setTimeout(() => this.#giveUp.abort(), this.#context.options.stopTimeoutMs);
    await this.#running?.catch(() => undefined);
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    const { options, log } = this.#context;
    const db = openPool(options.target, { role: ROLE, max: 2, statementTimeoutMs: 60_000, settings: LOOKUP_SETTINGS });
    let saidAt = Number.NEGATIVE_INFINITY;
    try {
      for (let attempt = 0; !this.#stop.signal.aborted; attempt++) {
        const began = performance.now();
        try {
          return await this.#session(db);
        } catch (error) {
          if (this.#stop.signal.aborted) return this.#lastWords(error);
          const known = error instanceof DifyEsError ? error : new DifyEsError('INTERNAL', `the stream failed: ${(error as Error).message}`, { cause: error });
          if (!this.#passes(known)) throw known;
          this.#reportLoss();
          if (performance.now() - began > options.retry.longestMs) attempt = 0;
          if (attempt === 0 || performance.now() - saidAt > SAY_AGAIN_MS) {
            log.warn({ code: known.code, reason: known.message }, 'waiting to read on');
            saidAt = performance.now();
          }
          await sleep(Math.min(options.retry.firstMs * 2 ** Math.min(attempt, 16), options.retry.longestMs), undefined, { signal: this.#stop.signal }).catch(() => undefined);
        }
      }
    } finally {
      await Promise.race([db.end(), sleep(CLOSE_LIMIT_MS)]);
    }
  }

  /** A slot in use passes at the start too: the other reader is being stopped, or its connection is timing out. */
  #passes(error: DifyEsError): boolean {
    return PASSING.has(error.code) && (this.#hasRun || error.code === 'PG_SLOT_BUSY');
  }

  #reportLoss(): void {
    const { transactions, records, deadLetters, lastCommitTimeMs } = this.#shared;
    this.#context.hooks.onProgress?.({ connected: false, epoch: null, receivedLsn: null, confirmedLsn: null, transactions, records, deadLetters, lastCommitTimeMs, bufferedBytes: 0 });
  }

  #lastWords(error: unknown): void {
    if (error instanceof DifyEsError && !PASSING.has(error.code)) throw error;
    this.#context.log.info('stopped before everything was confirmed; the rest comes again at the next start');
  }

  async #session(db: pg.Pool): Promise<void> {
    const { options, parts, log } = this.#context;
    await refuseSyncStandby(db, applicationName(ROLE));
    await requirePublication(db, options.publication);
    usableSlot(await inspectSlot(db, options.slot), options.slot);
    const decoder = parts.makeDecoder();
    const reader = await WalReader.open({
      target: options.target, role: ROLE, slot: options.slot, publication: options.publication,
      decode: (message) => decoder.decode(message), maxBufferedBytes: options.bufferBytes,
      statusIntervalMs: options.statusIntervalMs, silenceLimitMs: options.silenceLimitMs, log,
    }, db);
    this.#reader = reader;
    let publisher: Publisher | undefined;
    const stream = async (): Promise<void> => {
      publisher = await parts.openPublisher();
      // Beginning is what fences the predecessor. Asked after that, whether the slot is ours: whoever takes it from now
      // on fences us in turn, before anything that is older can be appended behind what it has published.
      await (await publisher.begin()).abort();
      const slotConfirmed = await reader.assertSlotHeld(db);
      const observed = { ...reader.identity, slot: options.slot, slotConfirmedLsn: slotConfirmed };
      const held = { publisher, assertStillOurs: async () => void (await reader.assertSlotHeld(db)) };
      const epoch = await this.#establishEpoch(observed, held);
      const recordSource = parts.makeRecords(rowFetcher(db, { schema: options.schema, maxBytes: options.fetchBytes }));
      log.info({ epoch: epoch.epoch, slot: options.slot, highWater: epoch.highWaterLsn }, 'reading the log');
      this.#hasRun = true;
      await new StreamSession(this.#context, this.#shared, {
        db, reader, publisher, recordSource, epoch, slotConfirmed,
        renewEpoch: (recorded) => this.#recordEpoch(outgrownEpoch(recorded, observed), observed, held),
      }).run();
    };
    try {
      await untilAborted(stream(), this.#giveUp.signal);
    } finally {
      this.#reader = undefined;
      await reader.close();
      if (publisher) await Promise.race([publisher.close(), sleep(CLOSE_LIMIT_MS)]);
    }
  }

  async #establishEpoch(observed: ObservedSource, held: HeldSlot): Promise<EpochRecord> {
    const recorded = await this.#context.parts.readEpoch();
    const decision = decideEpoch(recorded, observed);
    return recorded && decision.changed === null && !decision.slotMoved ? recorded : await this.#recordEpoch(decision, observed, held);
  }

  async #recordEpoch(decision: EpochDecision, observed: ObservedSource, { publisher, assertStillOurs }: HeldSlot): Promise<EpochRecord> {
    const { hooks, options, log } = this.#context;
    log.warn({ epoch: decision.epoch, changed: decision.changed, slotMoved: decision.slotMoved, reasons: decision.reasons }, 'a full backfill is required');
    // First what must be done, then the epoch: recorded the other way round, a crash between would forget it.
    await hooks.onEpoch?.(decision, observed);
    crashPoint('stream.epoch-before');
    const record = epochRecord(decision, observed, new Date());
    await inTransaction(publisher, (transaction) => transaction.putControl(stateKeys.epoch, record), { assertStillOurs, retry: options.retry, giveUp: this.#giveUp.signal, log });
    crashPoint('stream.epoch-recorded');
    hooks.onEpochRecorded?.(record);
    return record;
  }
}

/** The writer that has fenced its predecessor, and the question whether the slot is still ours. */
interface HeldSlot {
  readonly publisher: Publisher;
  readonly assertStillOurs: () => Promise<void>;
}

/** Throws when the signal comes first: a client that never answers would hold its caller for ever. */
async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const ended = new AbortController();
  work.catch(() => undefined);
  try {
    await Promise.race([work, new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true, signal: ended.signal }))]);
  } finally {
    ended.abort();
  }
}
