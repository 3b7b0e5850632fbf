import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { freePort } from '../../scripts/local/ports.ts';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { API, ERROR, lyingKafka, type KafkaLie, type LyingKafka } from '../support/faults/lying-kafka.ts';
import { Pipeline } from '../support/pipeline.ts';
import { isolate, ownServers } from '../support/servers.ts';

/*
 * A broker that has done what it was asked and says something else, or nothing, while the application writes: reader,
 * sink and migrate reach it through a proxy that lies. Whole brokers that die are in kafka-lost.e2e.test.ts.
 */
const here = isolate(import.meta.filename);
const own = ownServers();
let proxy: LyingKafka;
let pipeline: Pipeline;
let db: pg.Client;
let tenants: readonly string[] = [];

beforeAll(async () => {
  const port = await freePort();
  proxy = await lyingKafka({ host: '127.0.0.1', port });
  // Clients learn the broker's address from the broker itself.
  await own.kafka({ port, settings: { 'advertised.listeners': `CLIENT://127.0.0.1:${proxy.port}` } });
  pipeline = new Pipeline({ ...here.env, KAFKA_BROKERS: `127.0.0.1:${proxy.port}`, KAFKA_PARTITIONS: '2' });
  db = await pipeline.connect();
  await createDifySchema(db);
  ({ tenants } = await loadDataset(db, { seed: 65, tenants: 1, runs: 40, nodesPerRun: 2, rowSize: 1800, months: ['2026-08'] }));
  await pipeline.verb(['setup']);
});
afterAll(async () => {
  await pipeline?.killAll();
  await db?.end();
  await proxy?.close();
});

interface Turn {
  readonly name: string;
  readonly api: number;
  readonly lie: () => KafkaLie;
}

const PRODUCE: readonly Turn[] = [
  { name: 'written, and answered with LEADER_NOT_AVAILABLE', api: API.produce, lie: () => ({ kind: 'error', code: ERROR.leaderNotAvailable }) },
  { name: 'written, and answered with NOT_LEADER_OR_FOLLOWER', api: API.produce, lie: () => ({ kind: 'error', code: ERROR.notLeader }) },
  { name: 'written, and the connection cut', api: API.produce, lie: () => ({ kind: 'cut' }) },
  { name: 'the transaction committed, and the connection cut', api: API.endTxn, lie: () => ({ kind: 'cut' }) },
  { name: 'partitions added to the transaction, and the connection cut', api: API.addPartitionsToTxn, lie: () => ({ kind: 'cut' }) },
];
// longer than the transaction may last
const HELD: readonly Turn[] = [
  { name: 'written, and the answer held for 15 seconds', api: API.produce, lie: () => ({ kind: 'hold', until: sleep(15_000) }) },
  { name: 'the transaction committed, and the answer held for 15 seconds', api: API.endTxn, lie: () => ({ kind: 'hold', until: sleep(15_000) }) },
];
const READ: readonly Turn[] = [
  { name: 'a fetch cut off', api: API.fetch, lie: () => ({ kind: 'cut' }) },
  { name: 'offsets committed, and the connection cut', api: API.offsetCommit, lie: () => ({ kind: 'cut' }) },
];

/** Whom it is told, known by a name in the request that no other process uses, and in which order. Most twice: some meet what the first ones left. */
const LIES = [
  { to: 'stream', by: `/stream/${here.slot}`, turns: [...PRODUCE, ...HELD, ...PRODUCE] },
  { to: 'migrate', by: `${here.topicPrefix}.cdc.control/migrate/`, turns: [...PRODUCE, ...HELD] },
  // Fetches of rows name a topic; those of the others read the control topic alone.
  { to: 'sink', by: undefined, turns: [...READ, ...READ] },
] as const;
const isOfTheSink = (api: number, names: (name: string) => boolean): boolean => names(api === API.fetch ? `${here.topicPrefix}.cdc.workflow_` : here.group);

it('a lying Kafka costs nothing: both ends are equal after every lie was told', async () => {
  const told = LIES.map(({ to, turns }) => ({ to, left: [...turns] }));
  const allTold = Promise.withResolvers<void>();
  const [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
  const writer = pipeline.write({ seed: 66, tenantIds: tenants, writesPerSecond: 40, deletes: 0.2 });
  proxy.lie((api, names) => {
    const whose = LIES.findIndex(({ by }) => (by === undefined ? isOfTheSink(api, names) : names(by)));
    const turn = told[whose]?.left[0];
    if (turn?.api !== api) return undefined;
    told[whose]!.left.shift();
    if (told.every(({ left }) => left.length === 0)) allTold.resolve();
    return turn.lie();
  });
  await pipeline.verb(['migrate', '--batch-size', '20', '--workers', '1']);
  expect(told.find(({ to }) => to === 'migrate')!.left, 'told to migrate while it ran').toEqual([]);
  await Promise.race([allTold.promise, stream.ended, sink.ended]);
  await writer.reached(writer.counts().transactions + 20);
  await writer.stop();
  await pipeline.equal();
  expect(told.flatMap(({ to, left }) => left.map(({ name }) => `${to}: ${name}`)), 'lies that were not told').toEqual([]);
  expect([stream.isRunning(), sink.isRunning()], pipeline.describe()).toEqual([true, true]);
  // what the sink read is what the log holds: a replay of it ends equal too
  await sink.stop();
  expect(await pipeline.verb(['replay', '--from-beginning', '--run'])).not.toBe('');
  await Promise.all([pipeline.start('sink'), pipeline.equal()]);
  expect(JSON.parse(await pipeline.verb(['dlq', 'list', '--json'])), 'open dead letters').toMatchObject({ open: 0 });
});
