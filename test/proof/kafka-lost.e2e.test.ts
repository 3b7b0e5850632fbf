import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline } from '../support/pipeline.ts';
import type { Program } from '../support/program.ts';
import type { LocalServer } from '../support/servers.ts';
import { isolate, ownServers } from '../support/servers.ts';

/* A Kafka that does not answer, that restarts, and that has lost everything, while the application writes. */
const here = isolate(import.meta.filename);
const own = ownServers();
let kafka: LocalServer;
let pipeline: Pipeline;
let db: pg.Client;
let stream: Program;
let sink: Program;
let tenants: readonly string[] = [];

beforeAll(async () => {
  kafka = await own.kafka();
  pipeline = new Pipeline({ ...here.env, ...kafka.env, KAFKA_PARTITIONS: '2' });
  db = await pipeline.connect();
  // Far below the time Kafka will be silent: who stops reading without answering is thrown out by PostgreSQL.
  await db.query(`ALTER DATABASE ${here.database} SET wal_sender_timeout = '2s'`);
  await createDifySchema(db);
  ({ tenants } = await loadDataset(db, { seed: 51, tenants: 1, runs: 40, nodesPerRun: 2, rowSize: 1800, months: ['2026-08'] }));
  await pipeline.verb(['setup']);
  [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
  await pipeline.verb(['migrate']);
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

const readerPid = async (): Promise<number | null> => (await db.query<{ active_pid: number | null }>('SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1', [here.slot])).rows[0]?.active_pid ?? null;

it('a broker that is silent for longer than wal_sender_timeout does not cost the reader its connection', async () => {
  const writer = pipeline.write({ seed: 52, tenantIds: tenants, writesPerSecond: 40 });
  await writer.reached(20);
  const before = await readerPid();
  kafka.pause();
  await sleep(6_000);
  const during = await readerPid();
  kafka.resume();
  await writer.reached(writer.counts().transactions + 20);
  await writer.stop();
  await pipeline.equal();
  expect(during).toBe(before);
});

it('a broker that is killed and comes back costs nothing', async () => {
  const writer = pipeline.write({ seed: 53, tenantIds: tenants, writesPerSecond: 40 });
  await writer.reached(20);
  await kafka.kill9();
  await writer.reached(60);
  await kafka.start();
  await writer.reached(80);
  await writer.stop();
  await pipeline.equal();
  expect([stream.isRunning(), sink.isRunning()]).toEqual([true, true]);
});

it('a Kafka whose data was deleted is filled again by setup and migrate, and the loss is said', async () => {
  await Promise.all([stream.kill9(), sink.kill9()]);
  await kafka.destroy();
  await db.query("UPDATE workflow_runs SET status = 'stopped' WHERE id IN (SELECT id FROM workflow_runs LIMIT 20)");
  await db.query('DELETE FROM workflow_node_executions WHERE id IN (SELECT id FROM workflow_node_executions LIMIT 20)');
  kafka = await own.kafka();
  pipeline = new Pipeline({ ...pipeline.env, ...kafka.env });
  const lost = pipeline.spawn(['stream']);
  expect((await lost.ended).code, lost.describe()).toBeGreaterThan(0);
  await pipeline.verb(['setup']);
  [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
  await pipeline.verb(['migrate']);
  // The repair would bring what migrate has missed.
  await pipeline.nothingMissing();
  await pipeline.verb(['validate', '--full', '--repair', '--delete-extra']);
  await pipeline.equal();
  await Promise.all([stream.stop(), sink.stop()]);
});
