import { setTimeout as sleep } from 'node:timers/promises';
import type { RowRecord, TableName } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { formatLsn } from '../../core/lsn.ts';
import type { RowKey } from '../../core/row-key.ts';
import { versionOfCommit } from '../../core/row-version.ts';
import { stateKeys, type EpochRecord, type TruncateRecord } from '../../core/state.ts';
import { Documents } from '../validate/documents.ts';
import { boundariesFrom, verdictOfSurplus, type Boundaries } from '../validate/expectations.ts';
import { tombstoneKey } from '../validate/repairer.ts';
import { createdAtOf } from '../validate/verdict.ts';
import { openGroupLag } from '../../pipeline/kafka/group-lag.ts';
import { recordDurably } from '../../run/backfill-required.ts';
import type { TruncateContext, Truncation } from '../../run/stream.ts';

const TOGETHER = 1_000;
const POLL_MS = 200;
const SAY_EVERY_MS = 30_000;

/**
 * What TRUNCATE_POLICY says of it. `ignore`: it is recorded, and the history stays in Elasticsearch. `apply`: once the
 * sinks have settled everything before it, a tombstone for each document of the table that is there, through Kafka, so
 * that a replay ends the same.
 */
export async function handleTruncate(options: TruncateContext, truncation: Truncation): Promise<void> {
  const { config, platform, log, signal } = options;
  const { control } = platform.state;
  const policy = config.postgres.truncatePolicy;
  const { table } = truncation;
  log.warn({ table, policy, lsn: formatLsn(truncation.commitLsn) }, 'the table was truncated in PostgreSQL');
  // recorded last: after a crash the TRUNCATE comes again from the slot, and is applied from the beginning
  const deleted = policy === 'apply' ? await apply(options, truncation) : 0;
  if (policy === 'apply') log.warn({ table, deleted }, 'the truncation was applied');
  const record: TruncateRecord = { table, lsn: formatLsn(truncation.commitLsn), policy, applied: policy === 'apply', at: new Date().toISOString() };
  await recordDurably({ control, log, signal }, stateKeys.truncate(table, record.lsn), record);
  crashPoint('stream.truncate-recorded');
}

async function apply(options: TruncateContext, { table, commitLsn, commitTimeMs, publish }: Truncation): Promise<number> {
  const { config, platform: { client, state }, signal } = options;
  await sinksAreDone(options, table);
  const prefix = config.elasticsearch.indexPrefix;
  const known = boundariesFrom(state.control, { prefix, deletePolicy: 'apply', accepted: new Set() });
  const epoch = state.control.get<EpochRecord>(stateKeys.epoch)?.epoch ?? 1;
  const documents = new Documents(client, prefix, signal);
  let deleted = 0;
  for await (const keys of surplus(documents, table, known)) {
    const records = keys.map((key): RowRecord => ({ table, key, version: versionOfCommit(epoch, commitLsn), op: 'delete', lsn: commitLsn, timeMs: commitTimeMs, row: null }));
    // By the reader's own writer: the look took long, and whoever took the slot over meanwhile may have written rows
    // since, behind which no tombstone of this moment may land. Its begin has fenced us then.
    await publish((transaction) => transaction.send(records));
    crashPoint('stream.truncate-published');
    deleted += keys.length;
  }
  return deleted;
}

/**
 * Keys of the table's documents in open indices, but not of those that Dify wrote, that were archived, or that an earlier
 * TRUNCATE left. Which rows were deleted before, whose documents DELETE_POLICY=ignore kept, cannot be told: they go too.
 */
async function* surplus(documents: Documents, table: TableName, known: Boundaries): AsyncGenerator<RowKey[]> {
  for (const { name, parts } of await documents.indices(table, [])) {
    for await (const page of documents.scan(name)) {
      for (let at = 0; at < page.length; at += TOGETHER) {
        const some = page.slice(at, at + TOGETHER);
        const dates = await documents.mget(some.map(({ id }) => ({ index: name, id, field: 'created_at' })));
        const keys = some.flatMap(({ id, version }, i) => {
          const createdAt = dates[i] ? createdAtOf(dates[i]) : null;
          if (verdictOfSurplus(parts, version, createdAt, known) !== 'extra') return [];
          return tombstoneKey({ table, index: name, id }, createdAt, known.prefix) ?? [];
        });
        if (keys.length > 0) yield keys;
      }
    }
  }
}

/** What is still on its way into the table's indices would be missed by the look into them, and stay. */
async function sinksAreDone({ config, platform, log, signal }: TruncateContext, table: TableName): Promise<void> {
  const lag = await openGroupLag(platform.kafka, platform.names, config.kafka.group, [table]);
  try {
    const ends = await lag.endOffsets();
    for (let waited = 0; !(await lag.isDrainedTo(ends)); waited += POLL_MS) {
      if (signal.aborted) throw new DifyEsError('STOPPED', 'stopped while it waited for the sinks to come to a TRUNCATE');
      if (waited % SAY_EVERY_MS === 0) log.info({ table }, 'waiting for the sinks to come to the TRUNCATE');
      await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    }
  } finally {
    await lag.close();
  }
}
