import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import { TABLES, type TableName } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { parseLsn, type Lsn } from '../../core/lsn.ts';
import { stateKeys } from '../../core/state.ts';
import { connect, query, toPgError } from '../../pipeline/capture/pg-connection.ts';
import type { KafkaClient } from '../../pipeline/kafka/client.ts';
import { describeTopics, ensureTopics, pinLayout, topicNames, withAdmin } from '../../pipeline/kafka/topics.ts';
import { checkConnection } from '../../pipeline/sink/elastic-client.ts';
import { ensureTemplates } from '../../pipeline/sink/templates.ts';
import { elasticSettings, openElastic, openKafka, pgTarget } from '../../run/connections.ts';
import { openDurableState, type DurableState } from '../../run/durable-state.ts';
import { templateSettings } from '../../run/sink.ts';
import { templatesInUse } from '../../run/templates.ts';
import type { SourceNames } from './fitness.ts';
import { observeSource } from './observe.ts';
import { recordLostTopics, recordSource, type Recorded } from './records.ts';
import { openSession, throwIfStopped, type OpsSession } from './session.ts';
import { readSource, requireReady, setUpSource } from './source.ts';
import { readTables } from './source-state.ts';
import type { StepReport } from './step.ts';

export interface SetupOptions {
  /** How long to try for each lock that shuts Dify out for a moment. */
  readonly lockWaitMs: number;
  readonly say: (line: string) => void;
  readonly report: (step: StepReport) => void;
  readonly signal: AbortSignal;
}

const ROLE = 'setup';

export function sourceNames({ postgres }: Config): SourceNames {
  return { schema: postgres.schema, database: postgres.database, publication: postgres.publication, slot: postgres.slot };
}

/**
 * Identity indexes → replica identities → publication → slot → topics → records → templates. Idempotent and to be run
 * again after any stop. All three servers are asked first: a slot that nobody reads fills the disk of the source.
 */
export async function runSetup(config: Config, log: Logger, options: SetupOptions): Promise<Recorded> {
  const client = openElastic(config);
  const kafka = openKafka(config, log);
  const names = topicNames(config.kafka.topicPrefix);
  const openState = (): Promise<DurableState> => openDurableState({ kafka, controlTopic: names.control, client, prefix: config.elasticsearch.indexPrefix, log });
  try {
    await checkConnection(client, elasticSettings(config));
    const topics = await existingTopics(kafka, names);
    const hadControl = topics.has(names.control);
    const session = await openSession({ connect: () => connect(pgTarget(config), { role: ROLE }), say: options.say, signal: options.signal });
    try {
      await sourceSteps(session, config, options, async (tables) => {
        // a kill right after they were added must not look as if they always were in it
        if (hadControl) await withState(openState, async ({ control }) => {
          for (const table of tables) await control.remove(stateKeys.published(table));
        });
      });
      throwIfStopped(options.signal);
      const missing = hadControl ? TABLES.filter((table) => !topics.has(names.table[table])) : [];
      const lost = missing.length > 0 ? await withState(openState, async ({ control }) => recordLostTopics(control, missing, await lsnNow(session), new Date())) : [];
      const { created, altered } = await ensureTopics(kafka, names, { partitions: config.kafka.partitions, replicationFactor: config.kafka.replicationFactor });
      options.report({ step: 'topics', subject: `${config.kafka.topicPrefix}.cdc.*`, did: created.length + altered.length > 0 ? 'done' : 'already', detail: describeTopicsDone(created, altered, lost) });
      crashPoint('setup.topics-created');

      const state = await openState();
      try {
        await pinLayout(kafka, names, state.control);
        crashPoint('setup.layout-pinned');
        const recorded = await record(session, config, state);
        options.report({ step: 'records', subject: 'control topic', did: recorded.required.length > 0 ? 'done' : 'already', detail: recorded.reasons.join('; ') });
        const put = await ensureTemplates(client, await templatesInUse(client, templateSettings(config)));
        options.report({ step: 'templates', subject: `${config.elasticsearch.indexPrefix}-cdc-*-template`, did: put.length > 0 ? 'done' : 'already', detail: put.length > 0 ? `${put.length} put` : '' });
        crashPoint('setup.templates-put');
        return recorded;
      } finally {
        await state.close();
      }
    } finally {
      await session.close();
    }
  } finally {
    await client.close();
  }
}

async function sourceSteps(session: OpsSession, config: Config, { lockWaitMs, report }: SetupOptions, beforeAdding: (tables: readonly TableName[]) => Promise<void>): Promise<void> {
  const names = sourceNames(config);
  try {
    const before = await readSource(session.work, names);
    requireReady(before, names);
    await setUpSource(session, { names, lockWaitMs, beforeAdding, report }, before);
  } catch (error) {
    throw toPgError(error, 'query');
  }
}

async function existingTopics(kafka: KafkaClient, names: ReturnType<typeof topicNames>): Promise<ReadonlySet<string>> {
  const topics = await withAdmin(kafka, 'read the topics', (admin) => describeTopics(admin, names));
  return new Set(topics.filter(({ exists }) => exists).map(({ topic }) => topic));
}

async function withState<T>(openState: () => Promise<DurableState>, work: (state: DurableState) => Promise<T>): Promise<T> {
  const state = await openState();
  try {
    return await work(state);
  } finally {
    await state.close();
  }
}

async function record(session: OpsSession, config: Config, state: DurableState): Promise<Recorded> {
  const { schema, slot } = config.postgres;
  const observed = await observeSource(pgTarget(config), session.work, slot, ROLE);
  const tables = await readTables(session.work, schema);
  return recordSource({ control: state.control, recorded: await state.readEpoch(), observed, tables, nowLsn: await lsnNow(session), at: new Date() });
}

async function lsnNow(session: OpsSession): Promise<Lsn> {
  const [now] = await query<{ lsn: string }>(session.work, 'SELECT pg_current_wal_insert_lsn()::text AS lsn');
  return parseLsn(now!.lsn);
}

function describeTopicsDone(created: readonly string[], altered: readonly string[], lost: readonly TableName[]): string {
  const parts = [created.length > 0 ? `${created.length} created` : '', altered.length > 0 ? `settings of ${altered.length} corrected` : '', lost.length > 0 ? `BACKFILL REQUIRED for ${lost.join(', ')}, whose data was deleted` : ''];
  return parts.filter(Boolean).join(', ');
}
