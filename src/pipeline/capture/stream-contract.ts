import type { Logger } from 'pino';
import type { DeadLetter, FetchRows, LoggedChange, LoggedTransaction, MadeRecords, Publisher, PublishTransaction, Relation, WalMessage } from '../../core/contracts.ts';
import type { Lsn } from '../../core/lsn.ts';
import type { EpochRecord } from '../../core/state.ts';
import type { BatchLimits } from './batch.ts';
import type { EpochDecision, ObservedSource } from './epoch.ts';
import type { PgTarget } from './pg-connection.ts';

export interface StreamOptions {
  readonly target: PgTarget;
  readonly schema: string;
  readonly slot: string;
  readonly publication: string;
  readonly deletePolicy: 'apply' | 'ignore';
  readonly batch: BatchLimits & {
    /** A batch in the middle of a transaction is published after this time; at a commit nothing is waited for. */
    readonly maxDelayMs: number;
  };
  /** Bytes of the log in memory before reading pauses. */
  readonly bufferBytes: number;
  /** Bytes of one answer when unchanged TOAST is fetched. */
  readonly fetchBytes: number;
  /** After this a Kafka transaction takes no further slice; well below the time after which Kafka ends it. */
  readonly transactionMs: number;
  /** See ConfirmedLsnOptions. */
  readonly holdMs: number;
  /** The high-water mark is recorded, and the slot confirmed, at most this often. */
  readonly confirmEveryMs: number;
  readonly visibilityTimeoutMs: number;
  readonly statusIntervalMs: number;
  readonly silenceLimitMs: number;
  /** First and longest pause before something is tried again. */
  readonly retry: { readonly firstMs: number; readonly longestMs: number };
  /** What is in flight when stop() is called has this long to arrive; the rest comes again at the next start. */
  readonly stopTimeoutMs: number;
}

export const STREAM_DEFAULTS = {
  schema: 'public',
  batch: { maxChanges: 5_000, maxBytes: 8 << 20, maxDelayMs: 50 },
  bufferBytes: 8 << 20,
  fetchBytes: 8 << 20,
  transactionMs: 3_000,
  holdMs: 0,
  confirmEveryMs: 1_000,
  visibilityTimeoutMs: 60_000,
  statusIntervalMs: 1_000,
  silenceLimitMs: 300_000,
  retry: { firstMs: 100, longestMs: 5_000 },
  stopTimeoutMs: 7_000,
} as const satisfies Partial<StreamOptions>;

/** The other stages, as plain functions. */
export interface StreamParts {
  /** A decoder for one connection. */
  readonly makeDecoder: () => { decode(message: Buffer): WalMessage };
  readonly makeRecords: (fetchRows: FetchRows) => RecordSource;
  /**
   * The fenced writer of the stream's role, once for each connection. Called and begun when the slot is ours and not
   * before: it fences whoever had the role, and one who only waits for the slot must not do that to its holder.
   */
  readonly openPublisher: () => Promise<Publisher>;
  /** As recorded now, by whoever read last; of Kafka and Elasticsearch the higher. */
  readonly readEpoch: () => Promise<EpochRecord | undefined>;
  /** Asked once per run id and batch. Must be certain: a no deletes the documents that cleanup-pg has archived. */
  readonly isAnnouncedCleanup: (runId: string) => Promise<boolean>;
}

export interface RecordSource {
  make(batch: readonly LoggedChange[], rules: { readonly epoch: number; readonly deletePolicy: 'apply' | 'ignore'; readonly isAnnouncedCleanup: (runId: string) => boolean }): AsyncIterable<MadeRecords>;
  /** Before a batch is made again. */
  forget(): void;
  /** Commit LSN of the oldest change that cannot be completed before something later in the log is known. */
  readonly waitingSince: Lsn | null;
  /** Of those, the ones that the log up to `lsn` has not explained. They are parked, and then told to `parked`. */
  unexplained(lsn: Lsn): readonly WaitingChange[];
  parked(changes: readonly WaitingChange[]): void;
}

export interface WaitingChange {
  readonly letter: DeadLetter;
}

/** See `inTransaction`. */
export type PublishWork = (work: (transaction: PublishTransaction) => Promise<void>) => Promise<void>;

/** Awaited where they return a promise: the slot is not confirmed past the event before it has resolved. */
export interface StreamHooks {
  /** Before a changed epoch or slot is recorded: BACKFILL REQUIRED for all tables, and open runs are void. */
  readonly onEpoch?: (decision: EpochDecision, observed: ObservedSource) => Promise<void>;
  /** After the record is in Kafka; for the copy that outlives Kafka. */
  readonly onEpochRecorded?: (record: EpochRecord) => void;
  /** A table was announced: at the first change of a connection, and after each change of its definition. */
  readonly onRelation?: (relation: Relation, commitLsn: Lsn) => Promise<void>;
  /** Everything before it is in Kafka. What it has to publish goes through `publish`. */
  readonly onTruncate?: (relations: readonly Relation[], transaction: LoggedTransaction, publish: PublishWork) => Promise<void>;
  readonly onProgress?: (progress: StreamProgress) => void;
}

/** Counts are since the process started. */
export interface StreamProgress {
  readonly connected: boolean;
  readonly epoch: number | null;
  readonly receivedLsn: Lsn | null;
  readonly confirmedLsn: Lsn | null;
  readonly transactions: number;
  readonly records: number;
  readonly deadLetters: number;
  /** Of the last transaction that is in Kafka; its distance from now is the lag while there is something to do. */
  readonly lastCommitTimeMs: number | null;
  /** Bytes of the log that are read and not yet published. */
  readonly bufferedBytes: number;
}

export interface StreamContext {
  readonly options: StreamOptions;
  readonly parts: StreamParts;
  readonly hooks: StreamHooks;
  readonly log: Logger;
}
