import { readFileSync } from 'node:fs';
import kafkajs from 'kafkajs';
import { expect, it } from 'vitest';
import { isolate, ownServers } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const own = ownServers();

function connect(brokers: readonly string[], login: Partial<kafkajs.KafkaConfig> = {}): kafkajs.Kafka {
  return new kafkajs.Kafka({ brokers: [...brokers], ...login, logLevel: kafkajs.logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 30 } });
}

it('refuses to create topics by itself, because a mistyped prefix must not make new ones', async () => {
  const admin = connect(here.brokers).admin();
  await admin.connect();
  await expect(admin.fetchTopicMetadata({ topics: [`${here.topicPrefix}.nowhere`] })).rejects.toMatchObject({ type: 'UNKNOWN_TOPIC_OR_PARTITION' });
  await admin.disconnect();
});

it('that is secure keeps acknowledged records of a transaction over kill -9 on the same port', async () => {
  const server = await own.kafka({ secure: true });
  const login = { ssl: { ca: readFileSync(server.env['KAFKA_SSL_CA'] ?? '', 'utf8') }, sasl: { mechanism: 'scram-sha-512', username: 'dify', password: server.env['KAFKA_SASL_PASSWORD'] ?? '' } } as const;
  const stranger = connect([server.url], { ...login, sasl: { ...login.sasl, password: 'guessed' } }).admin();
  await expect(stranger.connect()).rejects.toMatchObject({ name: 'KafkaJSSASLAuthenticationError' });
  await stranger.disconnect();

  const admin = connect([server.url], login).admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic: 'kept', numPartitions: 1 }] });
  const producer = connect([server.url], login).producer({ transactionalId: 'writer', idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  const transaction = await producer.transaction();
  await transaction.send({ topic: 'kept', messages: [{ value: 'one' }] });
  await transaction.commit();
  await producer.disconnect();

  await server.kill9();
  await server.start();
  // The record and its commit marker. kafkajs asks for the end of what is committed, and the broker writes the marker
  // some time after it has answered the commit, even twice when it was killed in between.
  await expect.poll(async () => Number((await admin.fetchTopicOffsets('kept'))[0]?.high), { timeout: 60_000 }).toBeGreaterThanOrEqual(2);
  await admin.disconnect();
});
