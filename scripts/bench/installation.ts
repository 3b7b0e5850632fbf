import type pg from 'pg';
import { pino } from 'pino';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadConfig, readEnvironment } from '../../src/config/config.ts';
import { openGroupLag } from '../../src/pipeline/kafka/group-lag.ts';
import { topicNames } from '../../src/pipeline/kafka/topics.ts';
import { openKafka } from '../../src/run/connections.ts';
import { Pipeline, type Env } from '../../test/support/pipeline.ts';
import { cleanUpElasticsearch, cleanUpKafka } from '../../test/support/server-cleanup.ts';
import type { Program } from '../../test/support/program.ts';
import type { ServerKind } from '../local/state.ts';
import type { BenchOptions } from './options.ts';
import { Meter } from './processes.ts';

/** The servers of the bench and a database on them. */
export interface Ground {
  readonly env: Env;
  readonly pids: Readonly<Record<ServerKind, number>>;
  readonly options: BenchOptions;
  readonly elasticsearchUrl: string;
  /** Where the servers keep their data, to look up what the topics take. */
  readonly kafkaHome: string;
}

/** More often, and what is looked at with shows in the figures of Kafka: a look asks for the ends and positions of all partitions. */
const LOOK_MS = 200;
const STUCK_MS = 600_000;

/**
 * One installation of the program with names of its own: topics, group, slot and indices that nobody has written to.
 * The bench takes a new one for every figure, so that none begins with what another has left.
 */
export class Installation {
  readonly ground: Ground;
  readonly prefix: string;
  readonly pipeline: Pipeline;

  constructor(ground: Ground, name: string, extra: Env = {}) {
    const { env, options } = ground;
    this.ground = ground;
    this.prefix = name;
    const underscored = name.replaceAll('-', '_');
    this.pipeline = new Pipeline({
      ...env, LOG_LEVEL: 'info', ELASTICSEARCH_ENABLED: 'true', CDC_SLOT: underscored, CDC_PUBLICATION: underscored,
      KAFKA_TOPIC_PREFIX: name, KAFKA_CONSUMER_GROUP: `${name}-sink`, ELASTICSEARCH_INDEX_PREFIX: name,
      KAFKA_PARTITIONS: String(options.partitions), KAFKA_COMPRESSION: options.compression, ELASTICSEARCH_SEARCH_TEXT: String(options.searchText), ...extra,
    });
  }

  async setup(): Promise<void> {
    await this.pipeline.verb(['setup']);
  }

  startSinks(): Promise<Program[]> {
    return Promise.all(Array.from({ length: this.ground.options.sinks }, () => this.pipeline.start('sink')));
  }

  /** A meter on the three servers; our own processes are added as they start. */
  meter(): Meter {
    const meter = new Meter();
    const { pg, kafka, es } = this.ground.pids;
    meter.server('PostgreSQL', pg);
    meter.server('Kafka', kafka);
    meter.server('Elasticsearch', es);
    return meter;
  }

  /** Returns when the sinks have settled every record that is in the topics at the call. */
  async settled(): Promise<void> {
    const config = loadConfig(readEnvironment(this.pipeline.env));
    const lag = await openGroupLag(openKafka(config, pino({ level: 'silent' })), topicNames(config.kafka.topicPrefix), config.kafka.group);
    try {
      const ends = await lag.endOffsets();
      const deadline = performance.now() + STUCK_MS;
      while (!(await lag.isDrainedTo(ends))) {
        if (performance.now() > deadline) throw new Error(`the sinks did not get through in ${STUCK_MS / 1000} s\n${this.pipeline.describe()}`);
        await sleep(LOOK_MS);
      }
    } finally {
      await lag.close();
    }
  }

  /** Documents of Dify's four kinds; refreshes them first. */
  async documents(): Promise<number> {
    const pattern = `${this.ground.elasticsearchUrl}/${this.prefix}-workflow-*`;
    await fetch(`${pattern}/_refresh`, { method: 'POST' });
    return ((await (await fetch(`${pattern}/_count`)).json()) as { count: number }).count;
  }

  dropDocuments(): Promise<void> {
    return dropIndices(this.ground.elasticsearchUrl, `${this.prefix}-workflow-`);
  }

  /** Ends its processes and removes all that carries its name. */
  async remove(): Promise<void> {
    await this.pipeline.killAll();
    const { env } = this.pipeline;
    const brokers = (env['KAFKA_BROKERS'] ?? '').split(',');
    const db = await this.pipeline.connect();
    try {
      await dropSlot(db, env['CDC_SLOT'] ?? '');
      await db.query(`DROP PUBLICATION IF EXISTS ${db.escapeIdentifier(env['CDC_PUBLICATION'] ?? '')}`);
    } finally {
      await db.end();
    }
    await cleanUpKafka({ brokers, topicPrefix: this.prefix, elasticsearchUrl: this.ground.elasticsearchUrl, indexPrefix: this.prefix, env });
    await cleanUpElasticsearch({ brokers, topicPrefix: this.prefix, elasticsearchUrl: this.ground.elasticsearchUrl, indexPrefix: this.prefix, env });
  }
}

/** The walsender of a killed reader lets go of the slot a moment after it was asked to. */
async function dropSlot(db: pg.Client, slot: string): Promise<void> {
  await db.query('SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL', [slot]);
  await db.query('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1', [slot]);
}

/** By name and in parts: wildcards are refused for deletes, and a request line ends at 4,096 bytes. */
async function dropIndices(url: string, beginning: string): Promise<void> {
  const found = Object.keys((await (await fetch(`${url}/${beginning}*?filter_path=*.aliases`)).json()) as object);
  for (let at = 0; at < found.length; at += 25) {
    const answer = await fetch(`${url}/${found.slice(at, at + 25).join(',')}`, { method: 'DELETE' });
    if (!answer.ok) throw new Error(`cannot remove the indices of the last round: ${answer.status}`);
  }
}
