import type { Client } from '@elastic/elasticsearch';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import type { KafkaClient } from '../pipeline/kafka/client.ts';
import { describeTopics, topicNames, withAdmin, type TopicNames } from '../pipeline/kafka/topics.ts';
import { checkConnection } from '../pipeline/sink/elastic-client.ts';
import { elasticSettings, openElastic, openKafka } from './connections.ts';
import { openDurableState, type DurableState } from './durable-state.ts';

/** What every verb that moves or compares rows needs: Kafka, Elasticsearch and the state between them. */
export interface Platform {
  readonly kafka: KafkaClient;
  readonly names: TopicNames;
  readonly client: Client;
  readonly state: DurableState;
  /** The lowest of the tables' topics. */
  replicationFactor(): Promise<number>;
  close(): Promise<void>;
}

/**
 * Connects to Kafka and Elasticsearch; a server that is away now is an error (exit 3), later it is waited for. Throws
 * KAFKA_TOPIC_MISSING before the first setup.
 */
export async function openPlatform(config: Config, log: Logger): Promise<Platform> {
  const names = topicNames(config.kafka.topicPrefix);
  const client = openElastic(config);
  const kafka = openKafka(config, log);
  try {
    await checkConnection(client, elasticSettings(config));
    const state = await openDurableState({ kafka, controlTopic: names.control, client, prefix: config.elasticsearch.indexPrefix, log });
    return {
      kafka, names, client, state,
      async replicationFactor() {
        const topics = await withAdmin(kafka, 'read the topics', (admin) => describeTopics(admin, names));
        return Math.min(...topics.filter(({ exists }) => exists).map((topic) => topic.replicationFactor));
      },
      async close() {
        await state.close();
        await client.close();
      },
    };
  } catch (error) {
    await client.close();
    throw error;
  }
}
