import type pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createKafka } from '../../src/pipeline/kafka/client.ts';
import { describeTopics, topicNames, withAdmin } from '../../src/pipeline/kafka/topics.ts';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline, until } from '../support/pipeline.ts';
import type { Program } from '../support/program.ts';
import type { LocalServer } from '../support/servers.ts';
import { isolate, ownServers } from '../support/servers.ts';

/* Three brokers and three replicas, as somebody has them who must not lose a broker: each of them dies, and one hangs. */
const here = isolate(import.meta.filename);
const own = ownServers();
const names = topicNames(here.topicPrefix);
let cluster: readonly LocalServer[];
let pipeline: Pipeline;
let db: pg.Client;
let stream: Program;
let sink: Program;
let tenants: readonly string[] = [];

beforeAll(async () => {
  cluster = await own.kafkaCluster(3);
  pipeline = new Pipeline({ ...here.env, KAFKA_BROKERS: cluster.map(({ url }) => url).join(','), KAFKA_REPLICATION_FACTOR: '3', KAFKA_PARTITIONS: '4', MIGRATE_BATCH_SIZE: '50' });
  await until('all brokers are registered', async () => (await ask((admin) => admin.describeCluster())).brokers.length === 3);
  db = await pipeline.connect();
  await createDifySchema(db);
  ({ tenants } = await loadDataset(db, { seed: 71, tenants: 3, runs: 300, nodesPerRun: 2, rowSize: 1800, months: ['2026-08', '2026-09'] }));
  await pipeline.verb(['setup']);
  [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
});
afterAll(async () => {
  await pipeline?.killAll();
  await db?.end();
});

function ask<T>(question: Parameters<typeof withAdmin<T>>[2], of = cluster): Promise<T> {
  const kafka = createKafka({ brokers: of.map(({ url }) => url), clientId: 'test' }, pino({ level: 'silent' }));
  return withAdmin(kafka, 'look at the brokers', question);
}

const states = () => ask((admin) => describeTopics(admin, names));
/** Every replica has all that its leader has: the next broker may die. */
const inSync = (): Promise<void> => until('every replica is in sync', async () => (await states().catch(() => undefined))?.every(({ underReplicated }) => underReplicated === 0) ?? false);
/** How many partitions each broker leads, by its number; `of`: whom to ask. */
const leaders = async (of = cluster): Promise<Map<number, number>> => {
  const { topics } = await ask((admin) => admin.fetchTopicMetadata({ topics: Object.values(names.table) }), of);
  const led = new Map<number, number>();
  for (const { leader } of topics.flatMap(({ partitions }) => partitions)) led.set(leader, (led.get(leader) ?? 0) + 1);
  return led;
};

it('topics have three replicas, of which two must have a record, and nothing is synced by append', async () => {
  for (const { replicationFactor, config } of await states()) {
    expect(replicationFactor).toBe(3);
    expect(config).toMatchObject({ 'min.insync.replicas': '2', 'unclean.leader.election.enable': 'false' });
    expect(config['flush.messages']).not.toBe('1');
  }
  expect((await leaders()).size, 'each broker leads some partitions').toBe(3);
});

it('each broker is killed in turn while rows are backfilled and written: nobody has to be started again, and both ends are equal', async () => {
  const writer = pipeline.write({ seed: 72, tenantIds: tenants, writesPerSecond: 40 });
  await writer.reached(20);
  const migrate = pipeline.spawn(['migrate']);
  for (const [at, broker] of cluster.entries()) {
    await broker.kill9();
    await until('others lead its partitions', async () => !(await leaders().catch(() => new Map([[at + 1, 1]]))).has(at + 1));
    await writer.reached(writer.counts().transactions + 40);
    await broker.start();
    await inSync();
  }
  expect((await migrate.ended).code, migrate.describe()).toBe(0);
  await writer.stop();
  await pipeline.equal();
  expect([stream.isRunning(), sink.isRunning()], pipeline.describe()).toEqual([true, true]);
});

it('a broker that hangs until others have taken over, and wakes up, changes nothing', async () => {
  const writer = pipeline.write({ seed: 73, tenantIds: tenants, writesPerSecond: 40 });
  await writer.reached(20);
  const [leader] = [...(await leaders())].sort(([, a], [, b]) => b - a)[0]!;
  const broker = cluster[leader - 1]!;
  broker.pause();
  const others = cluster.filter((one) => one !== broker);
  await until('others lead its partitions', async () => !(await leaders(others)).has(leader));
  await writer.reached(writer.counts().transactions + 40);
  broker.resume();
  await inSync();
  await writer.stop();
  await pipeline.equal();
  expect([stream.isRunning(), sink.isRunning()], pipeline.describe()).toEqual([true, true]);
});

it('what the log holds afterwards is right: a replay into empty indices is equal too', async () => {
  await sink.stop();
  await pipeline.replayedEqual();
});
