import { readFileSync } from 'node:fs';
import { Client } from '@elastic/elasticsearch';
import kafkajs from 'kafkajs';
import pg from 'pg';

type Env = Readonly<Record<string, string>>;

/** The names by which a test file's things on the shared servers are known. */
export interface Names {
  readonly brokers: readonly string[];
  readonly topicPrefix: string;
  readonly elasticsearchUrl: string;
  readonly indexPrefix: string;
  readonly env: Env;
}

/** A connection to the database `postgres` of the server that the variables name. */
async function withAdmin(env: Env, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const ca = env['DB_SSL_CA'];
  const client = new pg.Client({
    host: env['DB_HOST'], port: Number(env['DB_PORT']), user: env['DB_USERNAME'], password: env['DB_PASSWORD'], database: 'postgres',
    ...(ca ? { ssl: { ca: readFileSync(ca, 'utf8') } } : {}),
  });
  client.on('error', () => undefined);
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

export async function createDatabase(env: Env): Promise<void> {
  await withAdmin(env, async (client) => {
    await client.query(`create database ${client.escapeIdentifier(env['DB_DATABASE'] ?? '')}`);
  });
}

/** The slots first: a forgotten one holds back WAL and keeps its database from being dropped. */
export async function dropDatabase(env: Env): Promise<void> {
  const database = env['DB_DATABASE'] ?? '';
  await withAdmin(env, async (client) => {
    const prepared = await client.query<{ gid: string }>('select gid from pg_prepared_xacts where database = $1', [database]);
    if (prepared.rows.length > 0) await rollBackPrepared(env, prepared.rows.map(({ gid }) => gid));
    const slots = await client.query<{ slot_name: string }>('select slot_name from pg_replication_slots where database = $1', [database]);
    for (const { slot_name: slot } of slots.rows) await dropSlot(client, slot);
    await client.query(`drop database if exists ${client.escapeIdentifier(database)} with (force)`);
  });
}

/** A prepared transaction is ended from within its own database only. */
async function rollBackPrepared(env: Env, gids: readonly string[]): Promise<void> {
  const client = new pg.Client({ host: env['DB_HOST'], port: Number(env['DB_PORT']), user: env['DB_USERNAME'], password: env['DB_PASSWORD'], database: env['DB_DATABASE'] });
  await client.connect();
  for (const gid of gids) await client.query(`rollback prepared ${client.escapeLiteral(gid)}`);
  await client.end();
}

/** pg_terminate_backend only asks; the walsender lets go of the slot a moment later. */
async function dropSlot(client: pg.Client, slot: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    await client.query('select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1 and active_pid is not null', [slot]);
    try {
      await client.query('select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1', [slot]);
      return;
    } catch (error) {
      // 55006 object_in_use: its reader has come back in between
      if ((error as { code?: string }).code !== '55006' || attempt > 20) throw error;
    }
  }
}

export async function cleanUpKafka(here: Names): Promise<void> {
  const kafka = new kafkajs.Kafka({ brokers: [...here.brokers], logLevel: kafkajs.logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  try {
    const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(here.topicPrefix));
    if (topics.length > 0) await admin.deleteTopics({ topics });
    const groups = (await admin.listGroups()).groups.map(({ groupId }) => groupId).filter((group) => group.startsWith(here.topicPrefix));
    // A group that still has members cannot go; it holds nothing that disturbs another file.
    if (groups.length > 0) await admin.deleteGroups(groups).catch(() => undefined);
  } finally {
    await admin.disconnect();
  }
}

export async function cleanUpElasticsearch(here: Names): Promise<void> {
  const ca = here.env['ELASTICSEARCH_CA_CERTS'];
  const username = here.env['ELASTICSEARCH_USERNAME'];
  const client = new Client({
    node: here.elasticsearchUrl,
    ...(username ? { auth: { username, password: here.env['ELASTICSEARCH_PASSWORD'] ?? '' } } : {}),
    ...(ca ? { tls: { ca: readFileSync(ca, 'utf8') } } : {}),
  });
  try {
    const found = await client.indices.get({ index: `${here.indexPrefix}*`, expand_wildcards: 'all', features: ['settings'] });
    const indices = Object.keys(found);
    // By name and in parts: wildcards are refused for deletes, and a request line ends at 4,096 bytes; a name has about 100.
    for (let i = 0; i < indices.length; i += 25) await client.indices.delete({ index: indices.slice(i, i + 25), ignore_unavailable: true });
    await client.indices.deleteIndexTemplate({ name: `${here.indexPrefix}*` }, { ignore: [404] });
  } finally {
    await client.close();
  }
}
