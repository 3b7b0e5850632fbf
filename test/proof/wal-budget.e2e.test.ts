import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline, until } from '../support/pipeline.ts';
import type { Program } from '../support/program.ts';
import { isolate, ownServers, type LocalServer } from '../support/servers.ts';

/*
 * The WAL that the slot holds back, from the first warning to the slot that is given up for the disk's sake. One story;
 * each test goes on where the one before ended.
 */
const here = isolate(import.meta.filename);
const own = ownServers();
const BUDGET = 64;
let kafka: LocalServer;
let pipeline: Pipeline;
let db: pg.Client;
let forgotten: pg.Client;
let stream: Program;

interface Wal {
  readonly level: string;
  readonly retainedBytes: number;
  readonly share: number;
  readonly bytesPerSecond: number;
  readonly secondsLeft: number | null;
}

async function status(env: Record<string, string> = {}): Promise<{ slot: object | null; wal: Wal | null; reasons: string[] }> {
  const { source, state } = JSON.parse(await pipeline.verb(['status', '--json'], 0, env)) as { source: { value: { slot: object | null; wal: Wal | null } }; state: { value: { required: { reason: string }[] } } };
  return { ...source.value, reasons: state.value.required.map(({ reason }) => reason) };
}

/** So much WAL; it is no change of any table, and the reader passes over it. */
async function writeWal(megabytes: number): Promise<void> {
  for (let i = 0; i < megabytes; i++) await db.query("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1048576))");
}

beforeAll(async () => {
  kafka = await own.kafka();
  pipeline = new Pipeline({ ...here.env, ...kafka.env, KAFKA_PARTITIONS: '2', WAL_BUDGET: `${BUDGET}MB` });
  db = await pipeline.connect();
  forgotten = await pipeline.connect();
  await createDifySchema(db);
  await loadDataset(db, { seed: 81, tenants: 1, runs: 60, nodesPerRun: 2, rowSize: 1800, months: ['2026-08'] });
  await pipeline.verb(['setup']);
  stream = await pipeline.start('stream');
  await pipeline.start('sink');
});
afterAll(async () => {
  await pipeline?.killAll();
  await forgotten?.end();
  await db?.end();
});

it('near the budget the backfill brakes, and goes on by itself once the reader has caught up', async () => {
  stream.pause();
  await writeWal(BUDGET * 0.8);
  const migrate = pipeline.spawn(['migrate']);
  await migrate.said('the backfill waits');
  stream.resume();
  expect((await migrate.ended).code, migrate.describe()).toBe(0);
  await pipeline.equal();
});

it('a transaction that somebody forgot holds WAL back: status gives its growth and the time left, the reader warns and then alarms, and keeps the slot', async () => {
  await forgotten.query('BEGIN');
  // One that has written nothing would hold nothing back.
  await forgotten.query("UPDATE workflow_app_logs SET created_from = 'held' WHERE id = (SELECT id FROM workflow_app_logs LIMIT 1)");
  await writeWal(BUDGET * 0.8);
  await stream.said('holds back nearly as much WAL as it may');
  let writing = true;
  const writer = (async () => {
    for (; writing; await sleep(20)) await writeWal(1);
  })();
  let wal: Wal | null = null;
  // What the slot held back before is let go first, once the server writes down which transactions run.
  await until('what is held back grows', async () => ((wal = (await status({ WAL_BUDGET: '100GB' })).wal)?.bytesPerSecond ?? 0) > 0);
  writing = false;
  await writer;
  expect(wal).toMatchObject({ level: 'ok' });
  expect(wal!.share).toBeCloseTo(wal!.retainedBytes / (100 * 1024 ** 3));
  expect(wal!.secondsLeft).toBeCloseTo((100 * 1024 ** 3 - wal!.retainedBytes) / wal!.bytesPerSecond);
  await writeWal(BUDGET * 0.3);
  await stream.said('holds back more WAL than it may');
  const past = await status();
  expect(past.wal).toMatchObject({ level: 'past' });
  expect(past.slot).not.toBeNull();
  expect(stream.isRunning(), stream.describe()).toBe(true);
});

it('with WAL_BUDGET_ACTION=drop-slot the reader gives the slot up, says what it means and what to run, and BACKFILL REQUIRED stays until that was done', async () => {
  await stream.stop();
  const killed = pipeline.spawn(['stream'], { env: { WAL_BUDGET_ACTION: 'drop-slot' }, crashAt: { point: 'stream.slot-loss-recorded', nth: 1 } });
  expect([(await killed.ended).signal, killed.witness], killed.describe()).toEqual(['SIGKILL', 'stream.slot-loss-recorded']);
  expect(await status(), 'recorded before the slot goes').toMatchObject({ slot: {}, reasons: Array.from({ length: 4 }, () => 'slot-lost') });
  const reader = pipeline.spawn(['stream'], { env: { WAL_BUDGET_ACTION: 'drop-slot' } });
  expect((await reader.ended).code, reader.describe()).toBe(1);
  expect(reader.describe()).toMatch(/the slot held back \d+ MB and was dropped to save the disk/);
  expect(reader.describe()).toContain('dify-es setup');
  expect((await db.query('SELECT FROM pg_replication_slots WHERE slot_name = $1', [here.slot])).rowCount).toBe(0);
  await forgotten.query('COMMIT');

  await db.query('DELETE FROM workflow_runs WHERE id IN (SELECT id FROM workflow_runs LIMIT 5)');
  await db.query("UPDATE workflow_node_executions SET title = 'changed while nobody read'");
  expect((await status()).reasons).toEqual(Array.from({ length: 4 }, () => 'slot-lost'));
  expect(await pipeline.verb(['setup'])).toContain('BACKFILL REQUIRED');
  stream = await pipeline.start('stream');
  await pipeline.verb(['migrate']);
  expect((await status()).reasons, 'until the reconcile is done').toHaveLength(4);
  // The repair would bring what migrate has missed.
  expect(await pipeline.nothingMissing(), 'documents of the rows that were deleted while nobody read').toBe(5);
  await pipeline.verb(['validate', '--full', '--repair', '--delete-extra']);
  expect((await status()).reasons).toEqual([]);
  await pipeline.equal();
});

it('the slot is given up also while Kafka is away and something waits to be recorded there; that changes are missing is found when the slot is made anew', async () => {
  await stream.stop();
  stream = await pipeline.start('stream', { env: { WAL_BUDGET_ACTION: 'drop-slot' } });
  kafka.pause();
  await writeWal(BUDGET * 1.2);
  await db.query("ALTER TABLE workflow_app_logs ADD COLUMN added_while_kafka_was_away text DEFAULT 'added'");
  await stream.said('the columns of the table have changed without a record of its rows');
  expect((await stream.ended).code, stream.describe()).toBe(1);
  expect(stream.describe()).toContain('Kafka is away: the slot is dropped all the same');
  expect(stream.describe()).toMatch(/the slot held back \d+ MB and was dropped to save the disk/);
  expect((await db.query('SELECT FROM pg_replication_slots WHERE slot_name = $1', [here.slot])).rowCount).toBe(0);

  await db.query('DELETE FROM workflow_runs WHERE id IN (SELECT id FROM workflow_runs LIMIT 5)');
  kafka.resume();
  expect(await pipeline.verb(['setup'])).toContain('BACKFILL REQUIRED');
  expect((await status()).reasons).toEqual(Array.from({ length: 4 }, () => expect.stringMatching(/^slot-(created|lost)$/) as string));
  stream = await pipeline.start('stream');
  await pipeline.verb(['migrate']);
  expect(await pipeline.nothingMissing(), 'documents of the rows that were deleted while nobody read').toBe(5);
  await pipeline.verb(['validate', '--full', '--repair', '--delete-extra']);
  expect((await status()).reasons).toEqual([]);
  await pipeline.equal();
});
