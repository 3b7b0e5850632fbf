import kafkajs from 'kafkajs';
import { expect, it } from 'vitest';
import { isolate, ownServers } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const own = ownServers();

function connect(brokers: readonly string[]): kafkajs.Kafka {
  return new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 30 } });
}

it('refuses to create topics by itself, because a mistyped prefix must not make new ones', async () => {
  const admin = connect(here.brokers).admin();
  await admin.connect();
  await expect(admin.fetchTopicMetadata({ topics: [`${here.topicPrefix}.nowhere`] })).rejects.toMatchObject({ type: 'UNKNOWN_TOPIC_OR_PARTITION' });
  await admin.disconnect();
});

it('keeps acknowledged records of a transaction over kill -9 on the same port', async () => {
  const server = await own.kafka();
  const admin = connect([server.url]).admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic: 'kept', numPartitions: 1 }] });
  const producer = connect([server.url]).producer({ transactionalId: 'writer', idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  const transaction = await producer.transaction();
  await transaction.send({ topic: 'kept', messages: [{ value: 'one' }] });
  await transaction.commit();
  await producer.disconnect();

  await server.kill9();
  await server.start();
  const [end] = await admin.fetchTopicOffsets('kept');
  // The record and the transaction's control marker.
  expect(end?.high).toBe('2');
  await admin.disconnect();
});
