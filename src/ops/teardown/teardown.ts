import type { Client } from '@elastic/elasticsearch';
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { connect, toPgError } from '../../pipeline/capture/pg-connection.ts';
import type { KafkaClient } from '../../pipeline/kafka/client.ts';
import { openControlLog } from '../../pipeline/kafka/control-log.ts';
import { openDeadLetters } from '../../pipeline/kafka/dead-letters.ts';
import type { Admin } from '../../pipeline/kafka/kafkajs.ts';
import { topicNames, withAdmin } from '../../pipeline/kafka/topics.ts';
import { checkConnection } from '../../pipeline/sink/elastic-client.ts';
import { removeTemplates, templateStates } from '../../pipeline/sink/templates.ts';
import { elasticSettings, openElastic, openKafka, pgTarget } from '../../run/connections.ts';
import { templateSettings } from '../../run/sink.ts';
import { templatesInUse } from '../../run/templates.ts';
import { openSession, throwIfStopped } from '../setup/session.ts';
import { sourceNames, type SetupOptions } from '../setup/setup.ts';
import type { StepReport } from '../setup/step.ts';
import { readRemains, requireRemovable, tearDownSource } from './source.ts';

export interface TeardownOptions extends SetupOptions {
  /** Keeps the topics, the consumer group and the templates, so that a later setup goes on with them. */
  readonly keepData: boolean;
}

/**
 * Publication → slot → identities → indexes, then topics, group and templates unless the data is kept. Documents, and
 * the index with the state that belongs to them, are never touched. Idempotent and to be run again after any stop.
 */
export async function runTeardown(config: Config, log: Logger, options: TeardownOptions): Promise<void> {
  const client = openElastic(config);
  try {
    const kafka = openKafka(config, log);
    let letters = 0;
    if (!options.keepData) {
      await checkConnection(client, elasticSettings(config));
      await withAdmin(kafka, 'look at the consumer group', (admin) => requireNoMembers(admin, config.kafka.group));
      letters = await openLetters(kafka, config, log);
      if (letters > 0) options.say(`${describeLetters(letters)} deleted with the topics; --keep-data keeps them`);
    }
    await sourceSteps(config, options);
    if (options.keepData) {
      options.report({ step: 'topics', subject: `${config.kafka.topicPrefix}.cdc.*`, did: 'kept', detail: 'with the consumer group and the templates, as --keep-data says' });
      return;
    }
    throwIfStopped(options.signal);
    for (const step of await removeFromKafka(kafka, config, letters)) options.report(step);
    options.report(await removeOurTemplates(client, config));
  } finally {
    await client.close();
  }
}

async function sourceSteps(config: Config, { lockWaitMs, say, signal, report }: TeardownOptions): Promise<void> {
  const names = sourceNames(config);
  const session = await openSession({ connect: () => connect(pgTarget(config), { role: 'teardown' }), say, signal });
  try {
    const remains = await readRemains(session.work, names);
    requireRemovable(remains, names);
    await tearDownSource(session, { names, lockWaitMs, report }, remains);
  } catch (error) {
    throw toPgError(error, 'query');
  } finally {
    await session.close();
  }
}

/** A sink that runs would commit offsets of topics that are gone, and Kafka refuses to delete its group. */
async function requireNoMembers(admin: Admin, group: string): Promise<void> {
  const members = (await admin.describeGroups([group])).groups[0]?.members.length ?? 0;
  if (members > 0) throw new DifyEsError('SINK_RUNNING', `${members} ${members === 1 ? 'sink is' : 'sinks are'} still in the consumer group ${group}`);
}

/** Dead letters that nobody has settled: after this they are known nowhere. Topics of a teardown that was stopped may be gone already. */
async function openLetters(kafka: KafkaClient, { kafka: { topicPrefix } }: Config, log: Logger): Promise<number> {
  const names = topicNames(topicPrefix);
  const present = await withAdmin(kafka, 'list the topics', async (admin) => new Set(await admin.listTopics()));
  if (!present.has(names.control) || !present.has(names.dlq)) return 0;
  const control = await openControlLog({ kafka, topic: names.control, logger: log });
  try {
    const letters = await openDeadLetters(kafka, names, control);
    try {
      return (await letters.groups()).reduce((sum, { open }) => sum + open, 0);
    } finally {
      await letters.close();
    }
  } finally {
    await control.close();
  }
}

const describeLetters = (count: number): string => (count === 1 ? '1 open dead letter is' : `${count} open dead letters are`);

/** By exact name and never by a prefix: other installations share the brokers. */
async function removeFromKafka(kafka: KafkaClient, { kafka: { topicPrefix, group } }: Config, letters: number): Promise<StepReport[]> {
  return withAdmin(kafka, 'delete the topics', async (admin) => {
    const present = new Set(await admin.listTopics());
    const topics = topicNames(topicPrefix).all.filter((topic) => present.has(topic));
    if (topics.length > 0) await admin.deleteTopics({ topics });
    crashPoint('teardown.topics-deleted');
    const hasGroup = (await admin.listGroups()).groups.some(({ groupId }) => groupId === group);
    if (hasGroup) await admin.deleteGroups([group]);
    crashPoint('teardown.group-deleted');
    return [
      { step: 'topics', subject: `${topicPrefix}.cdc.*`, did: topics.length > 0 ? 'done' : 'already', detail: topics.length > 0 ? `${topics.length} deleted${letters > 0 ? `; ${describeLetters(letters)} gone with them` : ''}` : '' },
      { step: 'group', subject: group, did: hasGroup ? 'done' : 'already', detail: hasGroup ? 'deleted' : '' },
    ];
  });
}

async function removeOurTemplates(client: Client, config: Config): Promise<StepReport> {
  const templates = await templatesInUse(client, templateSettings(config));
  const states = await templateStates(client, templates);
  const present = templates.filter(({ name }) => states.get(name) !== 'absent');
  await removeTemplates(client, present);
  crashPoint('teardown.templates-removed');
  return { step: 'templates', subject: `${config.elasticsearch.indexPrefix}-cdc-*-template`, did: present.length > 0 ? 'done' : 'already', detail: present.length > 0 ? `${present.length} removed` : '' };
}
