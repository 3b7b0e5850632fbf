import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { type MadeRecords, type Relation, TABLES, type TableName } from '../core/contracts.ts';
import { formatLsn, type Lsn } from '../core/lsn.ts';
import { stateKeys, type BackfillRequired, type EpochRecord } from '../core/state.ts';
import type { WatchedTable } from '../ops/watch/source-facts.ts';
import type { WalVerdict } from '../ops/watch/wal-budget.ts';
import type { EpochDecision } from '../pipeline/capture/epoch.ts';
import { type PublishWork, type RecordSource, STREAM_DEFAULTS, type StreamHooks, type StreamProgress } from '../pipeline/capture/stream-contract.ts';
import { StreamLoop } from '../pipeline/capture/stream-loop.ts';
import { PgoutputDecoder } from '../pipeline/decode/pgoutput.ts';
import { RecordMaker } from '../pipeline/decode/record-maker.ts';
import { createAvroEncoding } from '../pipeline/encode/avro-encoding.ts';
import { createPublisher } from '../pipeline/kafka/publisher.ts';
import { pinLayout } from '../pipeline/kafka/topics.ts';
import { requireBackfill, type RecordOptions } from './backfill-required.ts';
import { pgTarget } from './connections.ts';
import { recordDeletePolicy } from './delete-policy.ts';
import type { Platform } from './platform.ts';
import { driftOf, recordColumns } from './schema-drift.ts';
import { watchSource } from './source-watch.ts';

/**
 * Kafka answers a commit when its coordinator has noted it, in a topic of its own that is not synced, and writes the
 * markers afterwards. With one replica a power cut in between takes both; see docs/decisions/0018-synced-by-append.md.
 */
const SINGLE_REPLICA_HOLD_MS = 3_000;

export interface StreamRun {
  /** Ends after `stop`, or with the error that ends the process. */
  readonly done: Promise<void>;
  stop(): Promise<void>;
}

/** A TRUNCATE as the reader met it, and what is at hand to deal with it. */
export interface Truncation {
  readonly table: TableName;
  readonly commitLsn: Lsn;
  readonly commitTimeMs: number;
  /** One transaction of the reader's writer; `work` is done again where Kafka did not take it. */
  readonly publish: PublishWork;
}
export interface TruncateContext {
  readonly config: Config;
  readonly platform: Platform;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** What the verbs add to the reader. */
export interface StreamParts {
  /** Nothing later is published until this has returned: a TRUNCATE is a moment in the log. */
  readonly onTruncate: (context: TruncateContext, truncation: Truncation) => Promise<void>;
  readonly onProgress?: (progress: StreamProgress) => void;
  readonly onWal?: (verdict: WalVerdict) => void;
  readonly onTables?: (tables: readonly WatchedTable[]) => void;
  /** Each slice of records as it is made, before it is published; after a failure it is made again. */
  readonly onMade?: (made: MadeRecords) => void;
}

/** The reader, wired: slot → whole rows → Kafka. Throws at once what keeps it from starting. */
export async function startStream(config: Config, platform: Platform, log: Logger, parts: StreamParts): Promise<StreamRun> {
  const { kafka, names, state } = platform;
  const { postgres, program } = config;
  const layout = await pinLayout(kafka, names, state.control);
  const stopping = new AbortController();
  const loop = new StreamLoop({
    log,
    options: {
      ...STREAM_DEFAULTS,
      target: pgTarget(config), schema: postgres.schema, slot: postgres.slot, publication: postgres.publication,
      deletePolicy: postgres.deletePolicy,
      batch: { ...STREAM_DEFAULTS.batch, maxBytes: program.batchBytes },
      holdMs: (await platform.replicationFactor()) === 1 ? SINGLE_REPLICA_HOLD_MS : 0,
    },
    parts: {
      makeDecoder: () => new PgoutputDecoder(),
      makeRecords: (fetchRows) => {
        const maker = new RecordMaker({ cacheBytes: program.toastCacheBytes, truncatePolicy: postgres.truncatePolicy, fetchRows });
        return parts.onMade ? watched(maker, parts.onMade) : maker;
      },
      openPublisher: async () => {
        await recordDeletePolicy(state.control, postgres.deletePolicy);
        return createPublisher({
          kafka, names, role: 'stream', transactionalId: `${names.control}/stream/${postgres.slot}`, control: state.control,
          encoding: createAvroEncoding(), partitions: layout.partitions, logger: log, compression: config.kafka.compression,
        });
      },
      readEpoch: () => state.readEpoch(),
      isAnnouncedCleanup: async (runId) => {
        await state.control.refresh();
        return state.control.get(stateKeys.cleanup(runId)) !== undefined;
      },
    },
    hooks: { ...hooksOf({ config, platform, log, signal: stopping.signal }, parts.onTruncate), onEpochRecorded: (record) => state.mirrorEpoch(record), ...(parts.onProgress ? { onProgress: parts.onProgress } : {}) },
  });
  const reading = loop.run();
  const watching = watchSource({ config, control: state.control, log, signal: stopping.signal, stopReader: () => loop.stop(), ...(parts.onWal ? { onWal: parts.onWal } : {}), ...(parts.onTables ? { onTables: parts.onTables } : {}) });
  const done = Promise.all([reading, watching]).then(() => undefined);
  done.catch(() => undefined);
  return {
    done,
    async stop() {
      stopping.abort();
      await loop.stop();
      await watching.catch(() => undefined);
    },
  };
}

/** The same source of records, told to `onMade` slice by slice. */
function watched(source: RecordSource, onMade: (made: MadeRecords) => void): RecordSource {
  return {
    async *make(batch, rules) {
      for await (const made of source.make(batch, rules)) {
        onMade(made);
        yield made;
      }
    },
    forget: () => source.forget(),
    get waitingSince() {
      return source.waitingSince;
    },
    unexplained: (lsn) => source.unexplained(lsn),
    parked: (changes) => source.parked(changes),
  };
}

function hooksOf(options: TruncateContext, onTruncate: StreamParts['onTruncate']): StreamHooks {
  const { log, signal } = options;
  const { control } = options.platform.state;
  return {
    onEpoch: (decision) => requireBackfill({ control, log, signal }, TABLES, requirementOf(decision)),
    onRelation: (relation, commitLsn) => noteColumns({ control, log, signal }, relation, commitLsn),
    onTruncate: async (relations, { commitLsn, commitTimeMs }, publish) => {
      for (const { shape } of relations) await onTruncate(options, { table: shape.table, commitLsn, commitTimeMs, publish });
    },
  };
}

/** A new epoch or a moved slot: changes may be missing, and documents of a lost branch may remain. */
function requirementOf(decision: EpochDecision): Omit<BackfillRequired, 'table' | 'at'> {
  const { changed, highWaterLsn, epoch } = decision;
  const reason = changed === null ? 'slot-created' : changed === 'first' ? 'first-run' : changed;
  return { reason, sinceLsn: formatLsn(highWaterLsn), sinceEpoch: epoch, reconcile: changed !== 'first' };
}

/** ADD COLUMN with a default, DROP and RENAME change rows without any record in the log; the announcement betrays them. */
async function noteColumns(options: RecordOptions, { shape }: Relation, commitLsn: Lsn): Promise<void> {
  const { control, log } = options;
  const drift = driftOf(control, shape);
  if (drift === 'same') return;
  if (drift !== 'first') {
    log.warn({ table: shape.table, added: drift.added, removed: drift.removed }, 'the columns of the table have changed: a backfill of it is required');
    const sinceEpoch = control.get<EpochRecord>(stateKeys.epoch)?.epoch ?? 1;
    await requireBackfill(options, [shape.table], { reason: 'schema-drift', sinceLsn: formatLsn(commitLsn), sinceEpoch, reconcile: false });
  }
  await recordColumns(control, shape);
}
