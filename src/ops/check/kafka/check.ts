import type { Logger } from 'pino';
import type { Config } from '../../../config/config.ts';
import { DifyEsError } from '../../../core/errors.ts';
import { stateKeys, type LayoutRecord } from '../../../core/state.ts';
import { openControlLog } from '../../../pipeline/kafka/control-log.ts';
import type { KafkaClient } from '../../../pipeline/kafka/client.ts';
import { ConfigResourceTypes, type Admin } from '../../../pipeline/kafka/kafkajs.ts';
import { describeTopics, topicNames, withAdmin } from '../../../pipeline/kafka/topics.ts';
import { openKafka } from '../../../run/connections.ts';
import type { Finding } from '../finding.ts';
import { brokerFindings, groupFinding, layoutFinding, topicFindings, type BrokerFacts } from './findings.ts';

/** Reads only. Throws when no broker can be reached or the credentials are refused. */
export async function checkKafka(config: Config, log: Logger): Promise<Finding[]> {
  const kafka = openKafka(config, log);
  const names = topicNames(config.kafka.topicPrefix);
  const { partitions, replicationFactor, group } = config.kafka;
  const looked = await withAdmin(kafka, 'look at the brokers', async (admin) => ({
    brokers: await readBrokers(admin),
    topics: await describeTopics(admin, names),
    group: (await admin.describeGroups([group])).groups[0],
  }));
  const hasControl = looked.topics.some(({ topic, exists }) => topic === names.control && exists);
  const pinned = hasControl ? await readLayout(kafka, names.control, log) : undefined;
  return [
    ...brokerFindings(looked.brokers, replicationFactor),
    ...topicFindings(looked.topics, names, pinned?.partitions ?? partitions),
    layoutFinding(pinned, looked.topics.filter(({ topic, exists }) => exists && Object.values(names.table).includes(topic)), partitions),
    groupFinding(group, looked.group),
  ];
}

async function readBrokers(admin: Admin): Promise<BrokerFacts> {
  const { brokers } = await admin.describeCluster();
  const first = brokers[0];
  const settings = first ? await readSettings(admin, first.nodeId) : null;
  return { count: brokers.length, settings };
}

/** A cluster may keep its brokers' settings to itself; then only the topics speak. */
async function readSettings(admin: Admin, nodeId: number): Promise<Readonly<Record<string, string>> | null> {
  try {
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: ConfigResourceTypes.BROKER, name: String(nodeId) }] });
    return Object.fromEntries((resources[0]?.configEntries ?? []).map(({ configName, configValue }) => [configName, configValue]));
  } catch {
    return null;
  }
}

async function readLayout(kafka: KafkaClient, topic: string, logger: Logger): Promise<LayoutRecord | undefined> {
  try {
    const control = await openControlLog({ kafka, topic, logger });
    try {
      return control.get<LayoutRecord>(stateKeys.layout);
    } finally {
      await control.close();
    }
  } catch (error) {
    // deleted between two looks
    if (error instanceof DifyEsError && error.code === 'KAFKA_TOPIC_MISSING') return undefined;
    throw error;
  }
}
