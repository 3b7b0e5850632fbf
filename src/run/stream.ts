import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { type Relation, TABLES, type TableName } from '../core/contracts.ts';
import { formatLsn, type Lsn } from '../core/lsn.ts';
import { stateKeys, type BackfillRequired, type ControlLog, type TruncateRecord } from '../core/state.ts';
import type { EpochDecision } from '../pipeline/capture/epoch.ts';
import { STREAM_DEFAULTS, type StreamHooks, type StreamProgress } from '../pipeline/capture/stream-contract.ts';
import { StreamLoop } from '../pipeline/capture/stream-loop.ts';
import { PgoutputDecoder } from '../pipeline/decode/pgoutput.ts';
import { RecordMaker } from '../pipeline/decode/record-maker.ts';
import { createAvroEncoding } from '../pipeline/encode/avro-encoding.ts';
import { createPublisher } from '../pipeline/kafka/publisher.ts';
import { pinLayout } from '../pipeline/kafka/topics.ts';
import { pgTarget } from './connections.ts';
import type { Platform } from './platform.ts';
import { driftOf, recordColumns } from './schema-drift.ts';

/** An acknowledgement of a topic with one replica may sit in the page cache of one machine; see topicConfig's flush.ms. */
const SINGLE_REPLICA_HOLD_MS = 3_000;

export interface StreamRun {
  /** Ends after `stop`, or with the error that ends the process. */
  readonly done: Promise<void>;
  stop(): Promise<void>;
}

/** The reader, wired: slot → whole rows → Kafka. Throws at once what keeps it from starting. */
export async function startStream(config: Config, platform: Platform, log: Logger, onProgress: (progress: StreamProgress) => void = () => {}): Promise<StreamRun> {
  const { kafka, names, state } = platform;
  const { postgres, program } = config;
  const layout = await pinLayout(kafka, names, state.control);
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
      makeRecords: (fetchRows) => new RecordMaker({ cacheBytes: program.toastCacheBytes, fetchRows }),
      openPublisher: async () =>
        createPublisher({
          kafka, names, role: 'stream', transactionalId: `${names.control}/stream/${postgres.slot}`, control: state.control,
          encoding: createAvroEncoding(), partitions: layout.partitions, logger: log, compression: config.kafka.compression,
        }),
      readEpoch: () => state.readEpoch(),
      isAnnouncedCleanup: async (runId) => {
        await state.control.refresh();
        return state.control.get(stateKeys.cleanup(runId)) !== undefined;
      },
    },
    hooks: { ...hooksOf(config, state.control, log), onEpochRecorded: (record) => state.mirrorEpoch(record), onProgress },
  });
  const done = loop.run();
  done.catch(() => undefined);
  return { done, stop: () => loop.stop() };
}

function hooksOf(config: Config, control: ControlLog, log: Logger): StreamHooks {
  return {
    onEpoch: (decision) => requireBackfill(control, decision),
    onRelation: async (relation, commitLsn) => noteColumns(control, relation, commitLsn, log),
    onTruncate: async (relations, { commitLsn }) => {
      for (const { shape } of relations) await noteTruncate(config, control, shape.table, commitLsn, log);
    },
  };
}

/** A new epoch or a moved slot: changes may be missing, and documents of a lost branch may remain. */
async function requireBackfill(control: ControlLog, decision: EpochDecision): Promise<void> {
  for (const table of TABLES) {
    await control.put(stateKeys.required(table), {
      table,
      reason: reasonOf(decision),
      sinceLsn: formatLsn(decision.highWaterLsn),
      sinceEpoch: decision.epoch,
      reconcile: decision.changed !== 'first',
      at: new Date().toISOString(),
    } satisfies BackfillRequired);
  }
}

function reasonOf({ changed }: EpochDecision): BackfillRequired['reason'] {
  if (changed === null) return 'slot-created';
  return changed === 'first' ? 'first-run' : changed;
}

/** ADD COLUMN with a default, DROP and RENAME change rows without any record in the log; the announcement betrays them. */
async function noteColumns(control: ControlLog, { shape }: Relation, commitLsn: Lsn, log: Logger): Promise<void> {
  const drift = driftOf(control, shape);
  if (drift === 'first') return recordColumns(control, shape);
  if (drift === 'same') return;
  log.warn({ table: shape.table, added: drift.added, removed: drift.removed }, 'the columns of the table have changed: a backfill of it is required');
  const epoch = control.get<{ epoch: number }>(stateKeys.epoch)?.epoch ?? 1;
  const required: BackfillRequired = { table: shape.table, reason: 'schema-drift', sinceLsn: formatLsn(commitLsn), sinceEpoch: epoch, reconcile: false, at: new Date().toISOString() };
  // a requirement that asks for more stays
  const before = control.get<BackfillRequired>(stateKeys.required(shape.table));
  await control.put(stateKeys.required(shape.table), before?.reconcile ? { ...before, sinceLsn: required.sinceLsn } : required);
  await recordColumns(control, shape);
}

async function noteTruncate(config: Config, control: ControlLog, table: TableName, lsn: Lsn, log: Logger): Promise<void> {
  const policy = config.postgres.truncatePolicy;
  const record: TruncateRecord = { table, lsn: formatLsn(lsn), policy, applied: false, at: new Date().toISOString() };
  log.warn({ table, policy }, 'the table was truncated in PostgreSQL');
  await control.put(stateKeys.truncate(table, record.lsn), record);
}
