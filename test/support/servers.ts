import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import type { ElasticsearchOptions } from '../../scripts/local/elasticsearch.ts';
import { startElasticsearch } from '../../scripts/local/elasticsearch.ts';
import { readEnvFile } from '../../scripts/local/env-file.ts';
import { newClusterId, startKafka } from '../../scripts/local/kafka.ts';
import type { PostgresOptions } from '../../scripts/local/postgres.ts';
import { freePort } from '../../scripts/local/ports.ts';
import { startPostgres } from '../../scripts/local/postgres.ts';
import type { LocalServer, ServerOptions } from '../../scripts/local/server.ts';
import { OWN_PREFIX } from '../../scripts/test/servers.ts';
import { tierOf } from '../../scripts/test/tiers.ts';
import { cleanUpElasticsearch, cleanUpKafka, createDatabase, dropDatabase } from './server-cleanup.ts';

export type { LocalServer } from '../../scripts/local/server.ts';

/** What one test file has for itself on the shared servers: names that no other file and no earlier run uses. */
export interface Isolation {
  readonly name: string;
  /** Empty at first; dropped after the file, with its slots. */
  readonly database: string;
  readonly postgresUrl: string;
  readonly slot: string;
  readonly publication: string;
  readonly brokers: readonly string[];
  readonly topicPrefix: string;
  readonly group: string;
  readonly elasticsearchUrl: string;
  readonly indexPrefix: string;
  /** Every variable the program reads: the servers and these names. For `spawn(…, { env: { ...process.env, ...here.env } })`. */
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Call it once at the top of a test file: `const here = isolate(import.meta.filename)`. By hooks it creates the database
 * before the file's own hooks and removes all that carries these names after them.
 *
 * The servers are those of DIFY_ES_TEST_ENV (an env file as `npm run local -- up` writes it); `npm test` and vitest's
 * global setup set it.
 */
export function isolate(file: string): Isolation {
  const here = namesFor(file, randomBytes(3).toString('hex'), sharedServers());
  const tier = tierOf(file);
  const uses = (kind: string): boolean => tier === kind || tier === 'e2e';
  if (uses('pg')) {
    beforeAll(() => createDatabase(here.env));
    afterAll(() => dropDatabase(here.env));
  }
  if (uses('kafka')) afterAll(() => cleanUpKafka(here));
  if (uses('es')) afterAll(() => cleanUpElasticsearch(here));
  return here;
}

function sharedServers(): Record<string, string> {
  const file = process.env['DIFY_ES_TEST_ENV'];
  if (file === undefined) throw new Error('no servers for this test: run it with `npm test -- <file>` or set DIFY_ES_TEST_ENV to the env file of `npm run local -- up`');
  // Each test process has a PostgreSQL of its own.
  const own = `${file}.${process.env['VITEST_POOL_ID']}`;
  return readEnvFile(existsSync(own) ? own : file);
}

/** Pure. Lower case and short, because each name has to be legal as a slot (63 characters), an index and a topic. */
export function namesFor(file: string, unique: string, servers: Readonly<Record<string, string>>): Isolation {
  const slug = basename(file).replace(/(\.[a-z0-9]+)?\.test\.ts$/, '').toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').slice(0, 30);
  const name = `t-${slug}-${unique}`;
  const underscored = name.replaceAll('-', '_');
  const need = (variable: string): string => {
    const value = servers[variable];
    if (value === undefined || value === '') throw new Error(`${basename(file)} uses a server that was not started for it (${variable} is missing): give it the suffix of its server, or .e2e for all`);
    return value;
  };
  const env = {
    ...servers,
    ...(!servers['DB_HOST'] ? {} : { DB_DATABASE: underscored }),
    CDC_SLOT: underscored, CDC_PUBLICATION: underscored,
    KAFKA_TOPIC_PREFIX: name, KAFKA_CONSUMER_GROUP: `${name}-sink`, KAFKA_SESSION_TIMEOUT_MS: '6000',
    ELASTICSEARCH_INDEX_PREFIX: name,
  };
  return {
    name, database: underscored, slot: underscored, publication: underscored,
    topicPrefix: name, group: `${name}-sink`, indexPrefix: name, env,
    get postgresUrl() {
      const login = `${encodeURIComponent(need('DB_USERNAME'))}:${encodeURIComponent(need('DB_PASSWORD'))}`;
      return `postgres://${login}@${need('DB_HOST')}:${need('DB_PORT')}/${underscored}`;
    },
    get brokers() {
      return need('KAFKA_BROKERS').split(',');
    },
    get elasticsearchUrl() {
      return (JSON.parse(need('ELASTICSEARCH_HOSTS')) as string[])[0] ?? '';
    },
  };
}

/**
 * Servers of one test file alone, for what the shared ones must not suffer: kills, pauses, restarts, other settings.
 * They are destroyed after the file, whatever became of them.
 */
export function ownServers(): {
  postgres(options?: PostgresOptions): Promise<LocalServer>;
  kafka(options?: ServerOptions): Promise<LocalServer>;
  kafkaCluster(brokers: number): Promise<readonly LocalServer[]>;
  elasticsearch(options?: ElasticsearchOptions): Promise<LocalServer>;
} {
  const started: Promise<LocalServer>[] = [];
  // Also those that a test no longer waited for.
  afterAll(async () => {
    for (const one of await Promise.allSettled(started)) if (one.status === 'fulfilled') await one.value.destroy();
  });
  const keep = (starting: Promise<LocalServer>): Promise<LocalServer> => {
    started.push(starting);
    return starting;
  };
  return {
    postgres: (options) => keep(startPostgres({ ...ownFolder(), durable: false, ...options })),
    kafka: (options) => keep(startKafka({ ...ownFolder(), shortLived: true, ...options })),
    async kafkaCluster(brokers) {
      const clusterId = newClusterId();
      const nodes = await Promise.all(Array.from({ length: brokers }, async () => ({ port: await freePort(), controllerPort: await freePort() })));
      return Promise.all(nodes.map(({ port }, at) => keep(startKafka({ ...ownFolder(), shortLived: true, port, clusterId, settings: clusterSettings(nodes, at) }))));
    },
    elasticsearch: (options) => keep(startElasticsearch({ ...ownFolder(), heapMb: 512, shortLived: true, ...options })),
  };
}

/** Of one broker of a cluster, each of which is a controller too: with three any one may die. */
function clusterSettings(nodes: readonly { readonly port: number; readonly controllerPort: number }[], at: number): Record<string, string> {
  const { port, controllerPort } = nodes[at]!;
  const copies = String(nodes.length);
  const enough = String(Math.ceil((nodes.length + 1) / 2));
  return {
    'node.id': String(at + 1),
    'controller.quorum.voters': nodes.map((node, other) => `${other + 1}@127.0.0.1:${node.controllerPort}`).join(','),
    listeners: `CLIENT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'offsets.topic.replication.factor': copies,
    'transaction.state.log.replication.factor': copies,
    'transaction.state.log.min.isr': enough,
  };
}

/** In the folder of the test run, which the run's end, or the next run, clears of servers that a killed test left. */
function ownFolder(): { dir: string } | undefined {
  const run = dirname(process.env['DIFY_ES_TEST_ENV'] ?? '/');
  if (!existsSync(join(run, 'owner.json'))) return undefined;
  const dir = mkdtempSync(join(run, OWN_PREFIX));
  chmodSync(dir, 0o755);
  return { dir };
}
