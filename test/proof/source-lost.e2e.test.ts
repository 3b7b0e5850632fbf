import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline, until } from '../support/pipeline.ts';
import type { Program } from '../support/program.ts';
import type { LocalServer } from '../support/servers.ts';
import { isolate, ownServers } from '../support/servers.ts';

/*
 * The source is not what it was: put back from a copy, promoted, or its slot invalidated. Each time changes are missing
 * or documents of a lost branch remain; the program says BACKFILL REQUIRED, and after migrate and a reconcile both ends
 * are equal. One story on a PostgreSQL of its own.
 */
const here = isolate(import.meta.filename);
const own = ownServers();
let server: LocalServer;
let pipeline: Pipeline;
let db: pg.Client;
let stream: Program;
let sink: Program;
let tenants: readonly string[] = [];

const data = (): string => join(server.home, 'data');
const backup = (): string => join(server.home, 'copy');

beforeAll(async () => {
  server = await own.postgres({ settings: { max_slot_wal_keep_size: '48MB', wal_keep_size: '0' } });
  pipeline = new Pipeline({ ...here.env, ...server.env, KAFKA_PARTITIONS: '2' });
  db = await pipeline.connect();
  await createDifySchema(db);
  ({ tenants } = await loadDataset(db, { seed: 41, tenants: 1, runs: 40, nodesPerRun: 2, rowSize: 1800, months: ['2026-08'] }));
  await pipeline.verb(['setup']);
  [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
  await pipeline.verb(['migrate']);
  await pipeline.equal();
  await db.end();
});
beforeEach(async () => {
  db = await pipeline.connect();
});
afterEach(() => db.end());
afterAll(() => pipeline.killAll());

async function write(seed: number, transactions: number): Promise<void> {
  const writer = pipeline.write({ seed, tenantIds: tenants, deletes: 0.3 });
  await writer.reached(transactions);
  await writer.stop();
}

/** Stops the server, lets `work` change its folder, and starts it again. */
async function whileStopped(work: () => void): Promise<void> {
  await db.end();
  await server.stop();
  work();
  await server.start();
  db = await pipeline.connect();
}

/** What the operator is told to do when a backfill with a reconcile is required. */
async function makeGood(): Promise<void> {
  await pipeline.verb(['migrate']);
  // The repair would bring what migrate has missed.
  await pipeline.nothingMissing();
  await pipeline.verb(['validate', '--full', '--repair', '--delete-extra']);
  await pipeline.equal();
}

it('a copy of the data folder that is put back has lower LSNs: a new epoch, and what was lost goes from Elasticsearch too', async () => {
  await stream.stop();
  await whileStopped(() => void execFileSync('cp', ['-a', data(), backup()]));
  stream = await pipeline.start('stream');
  await write(42, 80);
  await pipeline.equal();
  await stream.stop();
  await whileStopped(() => {
    rmSync(data(), { recursive: true });
    execFileSync('mv', [backup(), data()]);
  });
  stream = await pipeline.start('stream');
  await stream.said('a full backfill is required');
  await write(43, 30);
  await pipeline.drained();
  const before = await pipeline.oracle();
  expect(before.differences.some(({ kind }) => kind === 'extra'), 'documents of the lost branch').toBe(true);
  await makeGood();
});

it('a promoted standby has a new timeline: a new epoch', async () => {
  await stream.stop();
  await whileStopped(() => writeFileSync(join(data(), 'standby.signal'), ''));
  await db.query('SELECT pg_promote()');
  await until('the server is no standby', async () => (await db.query('SELECT pg_is_in_recovery() AS yes')).rows[0].yes === false);
  stream = await pipeline.start('stream');
  await stream.said('new-epoch');
  await write(44, 40);
  await makeGood();
});

it('a slot that was invalidated stops the reader with the cure', async () => {
  await stream.kill9();
  for (let i = 0; i < 8; i++) await db.query("SELECT pg_logical_emit_message(true, 'fill', 'x'), pg_switch_wal()");
  await write(45, 30);
  await db.query('CHECKPOINT');
  await until('the slot is lost', async () => (await db.query('SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1', [here.slot])).rows[0].wal_status === 'lost');
  const lost = pipeline.spawn(['stream']);
  expect((await lost.ended).code, lost.describe()).toBeGreaterThan(0);
  expect(lost.describe()).toMatch(/lost/);
  expect(await pipeline.verb(['setup'])).toContain('BACKFILL REQUIRED');
  stream = await pipeline.start('stream');
  await write(46, 30);
  await makeGood();
  await stream.stop();
  await sink.stop();
});
