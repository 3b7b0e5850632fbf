import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { DifyEsError } from '../core/errors.ts';
import type { BackfillFilter } from '../core/state.ts';
import { runBackfill, type BackfillOptions, type BackfillResult } from '../pipeline/backfill/backfill.ts';
import { connect, withPgCode } from '../pipeline/capture/pg-connection.ts';
import { createAvroEncoding } from '../pipeline/encode/avro-encoding.ts';
import { createPublisher } from '../pipeline/kafka/publisher.ts';
import { pinLayout } from '../pipeline/kafka/topics.ts';
import { createBrake } from './brake.ts';
import { pgTarget } from './connections.ts';
import { requireSameDeletePolicy } from './delete-policy.ts';
import { requireOwnSource } from './own-source.ts';
import type { Platform } from './platform.ts';

export interface MigrateOptions {
  readonly filter: BackfillFilter;
  readonly workers: number;
  readonly batchRows: number;
  /** 0: no limit. */
  readonly rowsPerSecond: number;
  readonly signal: AbortSignal;
  readonly onProgress: NonNullable<BackfillOptions['onProgress']>;
  readonly onBlocked: NonNullable<BackfillOptions['onBlocked']>;
}

/** Long enough for a server that restarts; a longer outage is the operator's to know, and migrate goes on where it was. */
const RETRY_FOR_MS = 600_000;

/**
 * The backfill, wired. Throws STREAM_NEVER_RAN where neither setup nor a reader has recorded an epoch: without one and
 * without the stream, what changes after a row was read would never arrive.
 */
export async function runMigrate(config: Config, platform: Platform, options: MigrateOptions, log: Logger): Promise<BackfillResult> {
  const { kafka, names, state } = platform;
  const target = pgTarget(config);
  const epoch = await state.readEpoch();
  if (!epoch) throw new DifyEsError('STREAM_NEVER_RAN', 'no reader has ever read the slot, so there is no epoch to write in');
  requireSameDeletePolicy(state.control, config.postgres.deletePolicy);
  await requireOwnSource(config);
  const layout = await pinLayout(kafka, names, state.control);
  const brake = createBrake(config, log, options.signal);
  return runBackfill({
    mayProceed: () => brake.mayProceed(),
    connect: () => connect(target, { role: 'migrate' }),
    writers: {
      idOf: (memberId, index) => `${names.control}/migrate/${memberId}/${index}`,
      open: async (transactionalId) =>
        createPublisher({
          kafka, names, role: 'backfill', transactionalId, whenNameless: 'fenced', control: state.control,
          encoding: createAvroEncoding(), partitions: layout.partitions, logger: log, compression: config.kafka.compression,
        }),
    },
    silentMs: config.kafka.sessionTimeoutMs,
    control: state.control,
    source: { epoch: epoch.epoch, slot: epoch.slot },
    schema: config.postgres.schema,
    deletePolicy: config.postgres.deletePolicy,
    barrierTimeoutMs: config.program.barrierTimeoutSeconds * 1000,
    retryForMs: RETRY_FOR_MS,
    logger: log,
    ...options,
  }).catch((error: unknown) => {
    throw withPgCode(error);
  }).finally(() => brake.close());
}
