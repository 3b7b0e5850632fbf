import type { Client } from '@elastic/elasticsearch';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import type { PgTarget } from '../pipeline/capture/pg-connection.ts';
import { createKafka, type KafkaClient, type KafkaSettings } from '../pipeline/kafka/client.ts';
import { makeClient, type ElasticSettings } from '../pipeline/sink/elastic-client.ts';

/*
 * From the configuration to what each stage wants to know of its server. Stages never see the configuration, so that
 * each can be read, tested and used without the others.
 */

export function pgTarget({ postgres }: Config): PgTarget {
  const { host, port, username: user, password, database } = postgres;
  return { host, port, user, password, database, ssl: pgTls(postgres) };
}

/** `require` encrypts without proof of who is there, as libpq's does; `verify-full` proves the certificate and the name. */
function pgTls({ sslMode, ca }: Config['postgres']): NonNullable<PgTarget['ssl']> {
  switch (sslMode) {
    case 'disable':
      return false;
    case 'require':
      return { rejectUnauthorized: false };
    case 'verify-full':
      return ca === null ? { rejectUnauthorized: true } : { rejectUnauthorized: true, ca };
    default:
      return sslMode satisfies never;
  }
}

function kafkaSettings({ kafka }: Config): KafkaSettings {
  const { saslMechanism, saslUsername: username, saslPassword: password } = kafka;
  return {
    brokers: kafka.brokers,
    clientId: 'dify-es',
    ...(kafka.ssl ? { ssl: { verify: kafka.sslVerify, ...(kafka.ca === null ? {} : { ca: kafka.ca }) } } : {}),
    ...(saslMechanism === '' ? {} : { sasl: { mechanism: saslMechanism, username, password } }),
  };
}

export function elasticSettings({ elasticsearch }: Config): ElasticSettings {
  const { nodes, apiKey, username, password, verifyCerts, ca, timeoutSeconds, maxRetries } = elasticsearch;
  return {
    nodes,
    auth: apiKey ? { apiKey } : username ? { username, password } : null,
    tls: { ca, rejectUnauthorized: verifyCerts },
    timeoutMs: timeoutSeconds * 1000,
    maxRetries,
  };
}

export function openKafka(config: Config, log: Logger): KafkaClient {
  return createKafka(kafkaSettings(config), log);
}

export function openElastic(config: Config): Client {
  return makeClient(elasticSettings(config));
}
