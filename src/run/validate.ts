import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import type { Publisher, TableName } from '../core/contracts.ts';
import { DifyEsError } from '../core/errors.ts';
import { stateKeys, type BackfillRequired, type ControlLog } from '../core/state.ts';
import { Documents } from '../ops/validate/documents.ts';
import { expectedDocuments } from '../ops/validate/expected.ts';
import { boundariesFrom, type Boundaries } from '../ops/validate/expectations.ts';
import { Repairer } from '../ops/validate/repairer.ts';
import { Resend } from '../ops/validate/resend.ts';
import { Source } from '../ops/validate/source.ts';
import { validate, type ValidateProgress, type ValidateRequest, type Validation } from '../ops/validate/validate.ts';
import { connect } from '../pipeline/capture/pg-connection.ts';
import { createAvroEncoding } from '../pipeline/encode/avro-encoding.ts';
import { acceptedOf } from '../pipeline/kafka/dead-letters.ts';
import { createPublisher } from '../pipeline/kafka/publisher.ts';
import { pinLayout } from '../pipeline/kafka/topics.ts';
import { pgTarget } from './connections.ts';
import { requireSameDeletePolicy } from './delete-policy.ts';
import { openDrainer, type Drainer } from './drain.ts';
import { requireOwnSource } from './own-source.ts';
import type { Platform } from './platform.ts';

export interface ValidateOptions {
  readonly request: ValidateRequest;
  /** `rows`: missing and stale ones are sent again; `rows-and-extra`: and surplus documents deleted. */
  readonly repair: 'no' | 'rows' | 'rows-and-extra';
  /** Compared like any other though Elasticsearch is its truth. */
  readonly regardlessOfSwitch?: string;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: ValidateProgress) => void;
}

export interface ValidateResult {
  readonly validation: Validation;
  /** Tables whose BACKFILL REQUIRED asked for this look at surplus documents, and is settled by it. */
  readonly reconciled: readonly TableName[];
}

/** The comparison of both ends, wired. */
export async function runValidate(config: Config, platform: Platform, { request, repair, regardlessOfSwitch, signal, onProgress }: ValidateOptions, log: Logger): Promise<ValidateResult> {
  const { client, state } = platform;
  const prefix = config.elasticsearch.indexPrefix;
  const boundaries = async (): Promise<Boundaries> => {
    const recorded = await knownBoundaries(config, platform);
    return { ...recorded, switched: new Set([...recorded.switched].filter((tenant) => tenant !== regardlessOfSwitch)) };
  };
  await requireOwnSource(config);
  const before = requirements(state.control, request.tables);
  const drainer = await openDrainer(config, platform, log, signal);
  const scanning = await connect(pgTarget(config), { role: 'validate' });
  const lookup = await connect(pgTarget(config), { role: 'validate' });
  const documents = new Documents(client, prefix, signal);
  let repairer: Repairer | null = null;
  try {
    const stuck = request.sample === 'full' ? await drainFirst(drainer, log) : null;
    if (repair !== 'no') repairer = new Repairer(await openResend(config, platform, signal, log), documents, { prefix, deleteExtra: repair === 'rows-and-extra' });
    const compared = await validate(request, {
      source: new Source({ scanning, lookup }, config.postgres.schema),
      documents, boundaries, repairer, signal,
      expectedText: expectedDocuments(),
      drain: async () => {
        // it would be waited for a second time, as long and in vain
        if (stuck) throw stuck;
        return (await drainer.drain()).version;
      },
      ...(onProgress ? { onProgress } : {}),
    });
    // Without a suspect nobody asked for the drain point again, and what is still on its way may undo what is equal now.
    const validation = { ...compared, notDrained: compared.notDrained ?? stuck };
    return { validation, reconciled: config.elasticsearch.enabled ? await settleReconcile(state.control, request, validation, before) : [] };
  } finally {
    await Promise.allSettled([drainer.close(), scanning.end(), lookup.end(), repairer?.close()]);
  }
}

/** What is still on its way would all be suspected, and looked at twice. A path that does not drain is reported at the end. */
async function drainFirst(drainer: Drainer, log: Logger): Promise<DifyEsError | null> {
  try {
    await drainer.drain();
    return null;
  } catch (error) {
    if (!(error instanceof DifyEsError) || error.code === 'STOPPED') throw error;
    log.warn({ code: error.code, reason: error.message }, 'not drained before the comparison');
    return error;
  }
}

/** What may differ on purpose, read from the control topic. */
export async function knownBoundaries(config: Config, { state }: Pick<Platform, 'state'>): Promise<Boundaries> {
  const { control } = state;
  await control.refresh();
  requireSameDeletePolicy(control, config.postgres.deletePolicy);
  const accepted = new Set(acceptedOf(control).flatMap(({ row }) => row ?? []));
  return boundariesFrom(control, { prefix: config.elasticsearch.indexPrefix, deletePolicy: config.postgres.deletePolicy, accepted });
}

/**
 * The way of rows from PostgreSQL through Kafka behind a fresh barrier. `role` is part of the transactional.id: a second
 * process in the role fences the first. `around`: what goes between it and the publisher.
 */
export async function openResend(config: Config, { kafka, names, state }: Platform, signal: AbortSignal, log: Logger, role = 'repair', around: (publisher: Publisher) => Publisher = (publisher) => publisher): Promise<Resend> {
  const epoch = (await state.readEpoch())?.epoch;
  if (epoch === undefined) throw new DifyEsError('STREAM_NEVER_RAN', 'no reader has ever read the slot, so there is no epoch to repair in');
  const layout = await pinLayout(kafka, names, state.control);
  return new Resend({
    connect: () => connect(pgTarget(config), { role }),
    schema: config.postgres.schema,
    publisher: around(createPublisher({
      kafka, names, role: 'backfill', transactionalId: `${names.control}/${role}`, control: state.control,
      encoding: createAvroEncoding(), partitions: layout.partitions, logger: log, compression: config.kafka.compression,
    })),
    epoch: () => state.control.get<{ epoch: number }>(stateKeys.epoch)?.epoch ?? epoch,
    deletePolicy: config.postgres.deletePolicy,
    barrierTimeoutMs: config.program.barrierTimeoutSeconds * 1000,
    signal,
  });
}

type Requirements = ReadonlyMap<TableName, BackfillRequired>;

function requirements(control: ControlLog, tables: readonly TableName[]): Requirements {
  const found = new Map<TableName, BackfillRequired>();
  for (const table of tables) {
    const required = control.get<BackfillRequired>(stateKeys.required(table));
    if (required?.reconcile && required.backfilledBy !== undefined) found.set(table, required);
  }
  return found;
}

/**
 * A requirement whose backfill has been done and that only waits for the surplus documents to be looked at ends here,
 * if this look was at all of them, found none, and nothing was required anew meanwhile.
 */
async function settleReconcile(control: ControlLog, request: ValidateRequest, validation: Validation, before: Requirements): Promise<TableName[]> {
  const { tally, rewritten, notDrained } = validation;
  if (request.sample !== 'full' || request.tenantIds.length > 0 || notDrained || tally.inFlight > 0) return [];
  const unclean = new Set(tally.groups().filter((group) => group.extra + group['wrong-index'] + group.missing + group.stale > 0).map(({ table }) => table));
  return await control.change(() => {
    const settled = [...before].filter(([table, required]) => {
      if (unclean.has(table) || rewritten.includes(table)) return false;
      const now = control.get<BackfillRequired>(stateKeys.required(table));
      // none: settled by another look, or by this one, whose answer was lost
      return now === undefined || now.at === required.at;
    }).map(([table]) => table);
    return { writes: settled.map((table) => [stateKeys.required(table), null]), result: settled };
  });
}
