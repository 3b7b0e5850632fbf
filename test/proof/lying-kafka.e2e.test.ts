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

const LIES: readonly Turn[] = [
  { name: 'written, and answered with LEADER_NOT_AVAILABLE', api: API.produce, lie: () => ({ kind: 'error', code: ERROR.leaderNotAvailable }) },
  { name: 'written, and answered with NOT_LEADER_OR_FOLLOWER', api: API.produce, lie: () => ({ kind: 'error', code: ERROR.notLeader }) },
  { name: 'written, and the connection cut', api: API.produce, lie: () => ({ kind: 'cut' }) },
  { name: 'the transaction committed, and the connection cut', api: API.endTxn, lie: () => ({ kind: 'cut' }) },
  { name: 'partitions added to the transaction, and the connection cut', api: API.addPartitionsToTxn, lie: () => ({ kind: 'cut' }) },
  { name: 'a fetch cut off', api: API.fetch, lie: () => ({ kind: 'cut' }) },
  { name: 'offsets committed, and the connection cut', api: API.offsetCommit, lie: () => ({ kind: 'cut' }) },
  // longer than the transaction may last
  { name: 'written, and the answer held for 15 seconds', api: API.produce, lie: () => ({ kind: 'hold', until: sleep(15_000) }) },
  { name: 'the transaction committed, and the answer held for 15 seconds', api: API.endTxn, lie: () => ({ kind: 'hold', until: sleep(15_000) }) },
];

/** Each twice, so that some meet what the first ones left. */
const TURNS = [...LIES, ...LIES.filter(({ name }) => !name.includes('held'))];

it('a lying Kafka costs nothing: both ends are equal after every lie was told', async () => {
  const told: Turn[] = [];
  const allTold = Promise.withResolvers<void>();
  const [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
  const writer = pipeline.write({ seed: 66, tenantIds: tenants, writesPerSecond: 40, deletes: 0.2 });
  proxy.lie((api) => {
    const turn = TURNS[told.length];
    if (turn?.api !== api) return undefined;
    if (told.push(turn) === TURNS.length) allTold.resolve();
    return turn.lie();
  });
  await pipeline.verb(['migrate', '--batch-size', '20']);
  await Promise.race([allTold.promise, stream.ended, sink.ended]);
  await writer.reached(writer.counts().transactions + 20);
  await writer.stop();
  await pipeline.equal();
  expect(told.map(({ name }) => name)).toEqual(TURNS.map(({ name }) => name));
  expect([stream.isRunning(), sink.isRunning()], pipeline.describe()).toEqual([true, true]);
  // what the sink read is what the log holds: a replay of it ends equal too
  await sink.stop();
  expect(await pipeline.verb(['replay', '--from-beginning', '--run'])).not.toBe('');
  await Promise.all([pipeline.start('sink'), pipeline.equal()]);
});
