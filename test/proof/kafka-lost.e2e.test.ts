import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline, until } from '../support/pipeline.ts';
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

/** All that is visible now is in Kafka, and PostgreSQL may forget it. */
async function takenByTheReader(): Promise<void> {
  const { rows: [now] } = await db.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
  await until('the reader has confirmed it', async () => (await db.query<{ there: boolean }>('SELECT confirmed_flush_lsn >= $2::pg_lsn AS there FROM pg_replication_slots WHERE slot_name = $1', [here.slot, now!.lsn])).rows[0]!.there);
}

/** As formatted: of the same cluster and on the same port, and without a single topic. */
function emptyKafka(): void {
  const data = join(kafka.home, 'data');
  for (const name of readdirSync(data)) if (!['meta.properties', 'bootstrap.checkpoint'].includes(name)) rmSync(join(data, name), { recursive: true });
}

// The race is lost by a setup that comes before the reader has noticed: its state in the new topics would hide the loss.
it.each([
  ['with a setup before the reader has noticed', true, 'Kafka\'s data was deleted while this process was running', 54],
  ['with nobody there to set it up', false, 'UNKNOWN_TOPIC_OR_PARTITION', 55],
] as const)('a Kafka whose data is deleted while reader and sink run, %s, ends the reader with the cure, and what is missing is required', async (_, setUpAtOnce, message, seed) => {
  const writer = pipeline.write({ seed, tenantIds: tenants, writesPerSecond: 40 });
  onTestFinished(() => void writer.stop().catch(() => undefined));
  await writer.reached(20);
  sink.pause();
  // What the broker had answered already still reaches the sink when it wakes; what comes after these has only Kafka.
  await writer.reached(writer.counts().transactions + 20);
  await takenByTheReader();
  const { rowCount } = await db.query("UPDATE workflow_runs SET outputs = '{\"only\": \"in Kafka\"}' WHERE id IN (SELECT id FROM workflow_runs ORDER BY id LIMIT 20)");
  expect(rowCount).toBe(20);
  await takenByTheReader();
  await kafka.kill9();
  emptyKafka();
  sink.resume();
  await kafka.start();
  if (setUpAtOnce) await pipeline.verb(['setup']);
  await writer.reached(writer.counts().transactions + 20);
  expect((await stream.ended).code, stream.describe()).toBe(1);
  expect(stream.hasSaid(message), stream.describe()).toBe(true);
  await writer.stop();

  if (!setUpAtOnce) await pipeline.verb(['setup']);
  const reasons = async (): Promise<string[]> => (await pipeline.recorded()).required.map(({ reason }) => reason);
  expect(await reasons()).toEqual(Array.from({ length: 4 }, () => 'kafka-data-lost'));
  stream = await pipeline.start('stream');
  // It goes on, or has ended with the cure of the topics that were missing.
  if (!sink.isRunning()) sink = await pipeline.start('sink');
  await pipeline.drained();
  expect((await pipeline.oracle()).tables.workflow_runs!.different, 'rows that only Kafka had').toBeGreaterThan(0);
  await pipeline.verb(['migrate']);
  await pipeline.nothingMissing();
  await pipeline.verb(['validate', '--full', '--repair', '--delete-extra']);
  expect(await reasons()).toEqual([]);
  await pipeline.equal();
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
