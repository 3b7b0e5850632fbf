import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CRASH_POINTS, type CrashPoint } from '../../src/core/crash-point.ts';
import { insertRows } from '../support/dify/copy.ts';
import { edgeCaseRows } from '../support/dify/edge-cases.ts';
import { loadDataset } from '../support/dify/generator.ts';
import type { LiveWriter } from '../support/dify/live-writer.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline, until } from '../support/pipeline.ts';
import type { Program } from '../support/program.ts';
import { isolate } from '../support/servers.ts';

/*
 * P1 at every durable step: the process ends itself with SIGKILL at the named point while the application writes, its
 * witness file shows from outside that the point was reached, it is started again, drained, and both ends are equal.
 * (Points of setup, teardown and cleanup-pg are held by the tests of those verbs.)
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
let db: pg.Client;
let tenants: readonly string[] = [];
let stream: Program | undefined;
let sink: Program | undefined;
let seed = 100;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  ({ tenants } = await loadDataset(db, { seed: 21, tenants: 1, runs: 60, nodesPerRun: 2, rowSize: 1800, months: [new Date().toISOString().slice(0, 7)] }));
  await pipeline.verb(['setup']);
  [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
  await pipeline.verb(['migrate']);
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

async function underLoad(work: (writer: LiveWriter) => Promise<void>): Promise<void> {
  const writer = pipeline.write({ seed: seed++, tenantIds: tenants, writesPerSecond: 40, deletes: 0.2 });
  try {
    await work(writer);
    await writer.reached(writer.counts().transactions + 10);
  } finally {
    await writer.stop();
  }
}

/** Starts the verb, lets it die at the point, and sees from outside that it did. */
async function dieAt(args: readonly string[], point: CrashPoint, nth: number): Promise<void> {
  const program = pipeline.spawn(args, { crashAt: { point, nth } });
  const { signal } = await program.ended;
  expect({ signal, witness: program.witness }, program.describe()).toEqual({ signal: 'SIGKILL', witness: point });
}

const EPOCH = ['stream.epoch-before', 'stream.epoch-recorded'] as const satisfies readonly CrashPoint[];

const STREAM = [
  ['stream.produce-sent', 4], ['stream.produce-acknowledged', 4], ['stream.transaction-committed', 3], ['stream.high-water-recorded', 2], ['stream.slot-confirmed', 2],
] as const satisfies readonly (readonly [CrashPoint, number])[];

const SINK = [['sink.bulk-sent', 2], ['sink.bulk-answered', 2], ['sink.offset-committed', 2]] as const satisfies readonly (readonly [CrashPoint, number])[];

const BACKFILL = [
  ['backfill.run-recorded', 1], ['backfill.chunk-read', 3], ['backfill.produce-sent', 3], ['backfill.produce-acknowledged', 3], ['backfill.reread', 3],
  ['backfill.transaction-committed', 3], ['backfill.progress-saved', 3], ['backfill.required-cleared', 1], ['backfill.run-closed', 1],
] as const satisfies readonly (readonly [CrashPoint, number])[];

describe('a reader that dies', () => {
  it.each(STREAM)('at %s loses nothing', async (point, nth) => {
    await stream?.kill9();
    await underLoad(async (writer) => {
      await writer.reached(5);
      await dieAt(['stream'], point, nth);
      stream = await pipeline.start('stream');
    });
    await pipeline.equal();
  });

  it.each(EPOCH)('at %s, when somebody else has moved its slot, says that a backfill is required and loses nothing after it', async (point) => {
    await stream?.kill9();
    await passOver();
    await underLoad(async () => {
      await dieAt(['stream'], point, 1);
      stream = await pipeline.start('stream');
    });
    await pipeline.drained();
    expect((await pipeline.oracle()).equal, 'what was passed over is missing').toBe(false);
    await pipeline.verb(['migrate']);
    await pipeline.equal();
    await pipeline.verb(['validate', '--full']);
    expect((await pipeline.recorded()).required, 'settled').toEqual([]);
  });
});

/** New rows that no reader will ever see: the slot is moved behind them. */
async function passOver(): Promise<void> {
  const writer = pipeline.write({ seed: seed++, tenantIds: tenants, deletes: 0 });
  await writer.reached(20);
  await writer.stop();
  // 55006: the server has not noticed yet that the reader is dead.
  await until('the slot is free', async () => (await db.query('SELECT active FROM pg_replication_slots WHERE slot_name = $1', [here.slot])).rows[0].active === false);
  await db.query('SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())', [here.slot]);
}

describe('a sink that dies', () => {
  it.each(SINK)('at %s loses nothing', async (point, nth) => {
    await sink?.kill9();
    await underLoad(async () => {
      await dieAt(['sink'], point, nth);
      sink = await pipeline.start('sink');
    });
    await pipeline.equal();
  });

  it('at sink.dead-letter-sent keeps the refused record and loses nothing', async () => {
    await sink?.kill9();
    await underLoad(async () => {
      const { deadLetters } = edgeCaseRows({ tenantId: tenants[0]! });
      await insertRows(db, 'workflow_app_logs', deadLetters.workflow_app_logs);
      await dieAt(['sink'], 'sink.dead-letter-sent', 1);
      sink = await pipeline.start('sink');
    });
    await pipeline.equal();
    const report = await pipeline.oracle({ tables: ['workflow_app_logs'] });
    expect(report.tables.workflow_app_logs?.noMonth).toBe(4);
  });
});

describe('a migrate that dies', () => {
  // Nothing is in Elasticsearch before it: what it has lost, and its heir does not know of, is missing.
  it.each(BACKFILL)('at %s is resumed and loses nothing', async (point, nth) => {
    await pipeline.emptied();
    await underLoad(async () => {
      await dieAt(['migrate', '--batch-size', '20'], point, nth);
      // One that died after its run was closed has no heir: the next migrate would read all anew, and hide the loss.
      if (point !== 'backfill.run-closed') expect(JSON.parse(await pipeline.verb(['migrate', '--batch-size', '20', '--json']))).toMatchObject({ state: 'done', resumed: true });
    });
    await pipeline.equal();
  });

  it('leaves no run open, and nothing required', async () => {
    expect(await pipeline.recorded()).toEqual({ required: [], openRuns: 0 });
  });
});

/** Of one process among several, in test/proof/several.e2e.test.ts. */
const SEVERAL: readonly CrashPoint[] = ['backfill.segments-claimed', 'backfill.member-marked', 'backfill.member-fenced'];
/** Of relaxed indices, in test/proof/relaxed.e2e.test.ts. */
const RELAXED: readonly CrashPoint[] = ['sink.relaxed-index-made', 'sink.relaxed-put-back'];
/** Of a TRUNCATE that is applied, in test/proof/truncate.e2e.test.ts, and of a slot that is given up, in wal-budget.e2e.test.ts. */
const RARE: readonly CrashPoint[] = ['stream.truncate-published', 'stream.truncate-recorded', 'stream.slot-loss-recorded'];

it('every crash point of stream, sink and backfill has its test', () => {
  const tested: readonly CrashPoint[] = [...STREAM, ...SINK, ...BACKFILL].map(([point]) => point);
  const expected = CRASH_POINTS.filter((point) => /^(stream|sink|backfill)\./.test(point));
  expect([...tested, ...EPOCH, ...SEVERAL, ...RELAXED, ...RARE, 'sink.dead-letter-sent'].sort()).toEqual([...expected].sort());
});
