import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { BackfillRun } from '../../../src/core/state.ts';
import type { TableProgress } from '../../../src/pipeline/backfill/table-scan.ts';
import { createDifySchema, dropDifySchema } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';
import { backfill, EVERYTHING, logRows, pinned, tableRows } from './harness.ts';
import { MemoryKafka } from './memory-kafka.ts';

/* Several processes in one: each runBackfill has its own workers, sessions and lock. test/proof/several.e2e.test.ts kills real ones. */
const here = isolate(import.meta.filename);
const RUNS_ONLY = { ...EVERYTHING, tables: ['workflow_runs'] } as const;
let client: pg.Client;

beforeAll(async () => {
  client = await pinned(here)();
});
afterAll(() => client.end());
beforeEach(async () => {
  await dropDifySchema(client);
  await createDifySchema(client);
});

async function insertRuns(count: number): Promise<void> {
  await client.query(
    `INSERT INTO workflow_runs (tenant_id, app_id, workflow_id, type, triggered_from, version, status, created_by_role, created_by, created_at)
     SELECT a.id, a.id, a.id, 'workflow', 'app-run', 'draft', 'succeeded', 'account', a.id, timestamp '2026-01-01' + g * interval '1 hour'
     FROM generate_series(1, $1::int) g, (SELECT gen_random_uuid() AS id) a`,
    [count],
  );
  await client.query('ANALYZE workflow_runs');
}

async function expectEqual(kafka: MemoryKafka): Promise<void> {
  expect(logRows(kafka, 'workflow_runs')).toEqual(await tableRows(client, 'workflow_runs'));
}

const onlyRun = (kafka: MemoryKafka): BackfillRun => {
  const runs = [...kafka.control].filter(([key]) => key.startsWith('backfill/run/'));
  expect(runs.length).toBe(1);
  return runs[0]?.[1] as BackfillRun;
};

describe('a run of several processes', () => {
  const batches = { filter: RUNS_ONLY, batchRows: 200, rowsPerSecond: 5000 } as const;
  const quick = { filter: RUNS_ONLY, batchRows: 200 } as const;

  test('that are started at the same moment has one barrier, each reads its share, and all end with it', async () => {
    await insertRuns(30_000);
    const kafka = new MemoryKafka();
    const progress: TableProgress[] = [];
    const results = await Promise.all([1, 2, 3].map(() => backfill(here, kafka, { ...batches, onProgress: (one) => progress.push(one) })));
    expect(new Set(results.map(({ runId, barrierLsn }) => `${runId} ${barrierLsn}`)).size).toBe(1);
    expect(results.map(({ resumed }) => resumed).sort()).toEqual([false, true, true]);
    expect(results.map(({ state }) => state)).toEqual(['done', 'done', 'done']);
    expect(results.reduce((sum, { ownRows }) => sum + ownRows, 0)).toBe(30_000);
    for (const { ownRows } of results) expect(ownRows).toBeGreaterThan(2000);
    for (const { tables } of results) expect(tables).toMatchObject([{ rows: 30_000, done: true }]);
    expect(onlyRun(kafka).state).toBe('done');
    expect(kafka.committed().length).toBe(30_000);
    await expectEqual(kafka);
  });

  test('of which one is stopped: the others read on what it leaves', async () => {
    await insertRuns(30_000);
    const kafka = new MemoryKafka();
    const stop = new AbortController();
    kafka.onCommit = () => {
      if (kafka.commits === 20) stop.abort();
    };
    const [stopped, other] = await Promise.all([backfill(here, kafka, { ...batches, signal: stop.signal }), backfill(here, kafka, batches)]);
    expect(stopped.state).toBe('stopped');
    expect(other.state).toBe('done');
    expect(stopped.ownRows + other.ownRows).toBe(30_000);
    expect(stopped.ownRows).toBeGreaterThan(0);
    await expectEqual(kafka);
  });

  test('agrees on one new scan when the table is rewritten under all of them', async () => {
    await insertRuns(20_000);
    const kafka = new MemoryKafka();
    let rewritten: Promise<unknown> | undefined;
    kafka.onCommit = async () => {
      if (kafka.commits >= 20) await (rewritten ??= client.query('VACUUM FULL workflow_runs'));
    };
    const results = await Promise.all([backfill(here, kafka, batches), backfill(here, kafka, batches)]);
    for (const { state, tables } of results) expect({ state, tables }).toMatchObject({ state: 'done', tables: [{ scan: 2, rows: 20_000, done: true }] });
    await expectEqual(kafka);
  });

  test('ends for all when the table is dropped under all of them', async () => {
    await insertRuns(20_000);
    const kafka = new MemoryKafka();
    let dropped: Promise<unknown> | undefined;
    kafka.onCommit = async () => {
      if (kafka.commits >= 20) await (dropped ??= client.query('DROP TABLE workflow_runs'));
    };
    const results = await Promise.all([backfill(here, kafka, batches), backfill(here, kafka, batches)]);
    expect(results.map(({ state }) => state)).toEqual(['done', 'done']);
    expect(onlyRun(kafka)).toMatchObject({ state: 'done', tables: {} });
  });

  test('of which one stands still: another takes its ranges over, and when it wakes it stops without another record', async () => {
    await insertRuns(5000);
    const kafka = new MemoryKafka();
    const reached = Promise.withResolvers<void>();
    const asleep = Promise.withResolvers<void>();
    let sends = 0;
    kafka.onSend = async () => {
      if (++sends !== 3) return;
      reached.resolve();
      await asleep.promise;
    };
    const control = kafka.controlLog();
    const still = { ...control, put: async (key: string, value: unknown) => {
      if (sends >= 3) await asleep.promise;
      await control.put(key, value);
    } };
    const zombie = backfill(here, kafka, { ...quick, control: still });
    await reached.promise;
    const heir = await backfill(here, kafka, { ...quick, silentMs: 1500 });
    expect(heir).toMatchObject({ state: 'done', resumed: true });
    const committed = kafka.committed().length;
    asleep.resolve();
    await expect(zombie).rejects.toMatchObject({ code: 'KAFKA_FENCED' });
    expect(kafka.committed().length).toBe(committed);
    await expectEqual(kafka);
  });

  test('of which one stood still before it had claimed its writers does not take them back', async () => {
    await insertRuns(5000);
    const kafka = new MemoryKafka();
    const reached = Promise.withResolvers<void>();
    const asleep = Promise.withResolvers<void>();
    const idOf = (memberId: string, index: number): string => `${memberId}/${index}`;
    const open: typeof kafka.openPublisher = async (writer) => {
      const publisher = await kafka.openPublisher(writer);
      return { ...publisher, begin: async () => {
        reached.resolve();
        await asleep.promise;
        return publisher.begin();
      } };
    };
    const zombie = backfill(here, kafka, { ...quick, writers: { idOf, open } });
    await reached.promise;
    // Not before the silence is noticed: whoever is quicker than that ends the run without giving anybody up.
    expect(await backfill(here, kafka, { ...quick, silentMs: 1500, rowsPerSecond: 2000 })).toMatchObject({ state: 'done', resumed: true });
    const committed = kafka.committed().length;
    asleep.resolve();
    await expect(zombie).rejects.toMatchObject({ code: 'KAFKA_FENCED' });
    expect(kafka.committed().length).toBe(committed);
    await expectEqual(kafka);
  });
});
