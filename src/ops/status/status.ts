import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import { connect } from '../../pipeline/capture/pg-connection.ts';
import { openControlLog } from '../../pipeline/kafka/control-log.ts';
import { topicNames } from '../../pipeline/kafka/topics.ts';
import { checkConnection } from '../../pipeline/sink/elastic-client.ts';
import { elasticSettings, openElastic, openKafka, pgTarget } from '../../run/connections.ts';
import { readElastic, type ElasticStatus } from './elastic-status.ts';
import { readGroup, readKafka, readLetters, type GroupStatus, type KafkaStatus, type LettersStatus } from './kafka-status.ts';
import { after, readPart, type Part } from './part.ts';
import { readRecorded, type RecordedState } from './recorded-state.ts';
import { readSource, type SourceStatus } from './source-status.ts';

export interface Status {
  readonly source: Part<SourceStatus>;
  readonly kafka: Part<KafkaStatus>;
  readonly group: Part<GroupStatus>;
  readonly state: Part<RecordedState>;
  readonly letters: Part<LettersStatus>;
  readonly elasticsearch: Part<ElasticStatus>;
}

/** Reads all parts at once. Never throws for a server; reads only. */
export async function readStatus(config: Config, tenantId: string | null, log: Logger): Promise<Status> {
  const [source, kafka, elasticsearch] = await Promise.all([sourcePart(config), kafkaParts(config, tenantId, log), elasticPart(config, tenantId)]);
  return { source, ...kafka, elasticsearch };
}

function sourcePart(config: Config): Promise<Part<SourceStatus>> {
  return readPart('PG_UNREACHABLE', async () => {
    const db = await connect(pgTarget(config), { role: 'status', statementTimeoutMs: 10_000 });
    try {
      return await readSource(db, config.postgres);
    } finally {
      await db.end().catch(() => undefined);
    }
  });
}

async function kafkaParts(config: Config, tenantId: string | null, log: Logger): Promise<Pick<Status, 'kafka' | 'group' | 'state' | 'letters'>> {
  const names = topicNames(config.kafka.topicPrefix);
  const client = openKafka(config, log);
  const kafka = await readPart('KAFKA_UNREACHABLE', () => readKafka(client, names));
  // a Kafka that is away would be waited for by each of these anew
  if (!kafka.ok) return { kafka, group: kafka, state: kafka, letters: kafka };
  const [group, control] = await Promise.all([
    readPart('KAFKA_UNREACHABLE', () => readGroup(client, names, config.kafka.group)),
    readPart('KAFKA_UNREACHABLE', () => openControlLog({ kafka: client, topic: names.control, logger: log })),
  ]);
  try {
    const state = await after(control, (view) => readPart('KAFKA_UNREACHABLE', async () => readRecorded(view, tenantId)));
    const letters = await after(control, (view) => readPart('KAFKA_UNREACHABLE', () => readLetters(client, names, view)));
    return { kafka, group, state, letters };
  } finally {
    if (control.ok) await control.value.close();
  }
}

function elasticPart(config: Config, tenantId: string | null): Promise<Part<ElasticStatus>> {
  return readPart('ES_UNREACHABLE', async () => {
    const client = openElastic(config);
    try {
      const server = await checkConnection(client, elasticSettings(config));
      return await readElastic(client, config.elasticsearch.indexPrefix, tenantId, server);
    } finally {
      await client.close();
    }
  });
}
