import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { BackfillRun } from '../../../src/core/state.ts';
import { abandonRuns } from '../../../src/pipeline/backfill/backfill.ts';
import { BACKFILL_LOCK } from '../../../src/pipeline/backfill/read-session.ts';
import { planTable } from '../../../src/pipeline/backfill/table-plan.ts';
import type { TableProgress } from '../../../src/pipeline/backfill/table-scan.ts';
import { startLiveWriter } from '../../support/dify/live-writer.ts';
import { createDifySchema, dropDifySchema } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';
import { backfill, EVERYTHING, logRows, openSession, pinned, tableRows } from './harness.ts';
import { MemoryKafka } from './memory-kafka.ts';

const here = isolate(import.meta.filename);
const tenant = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
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

/** Rows of `tenants` tenants one behind the other, an hour apart, `bytes` of incompressible TOAST in each. */
async function insertRuns(count: number, options: { tenants?: number; bytes?: number } = {}): Promise<void> {
  const { tenants = 1, bytes = 0 } = options;
  await client.query(
    `INSERT INTO workflow_runs (tenant_id, app_id, workflow_id, type, triggered_from, version, graph, status, created_by_role, created_by, created_at)
     SELECT ('00000000-0000-4000-8000-' || lpad((g * $2 / ($1 + 1))::text, 12, '0'))::uuid, a.id, a.id, 'workflow', 'app-run', 'draft', $3, 'succeeded', 'account', a.id, timestamp '2026-01-01' + g * interval '1 hour'
     FROM generate_series(1, $1::int) g, (SELECT gen_random_uuid() AS id) a`,
    [count, tenants, bytes === 0 ? null : randomText(bytes)],
  );
  await client.query('ANALYZE workflow_runs');
}

const randomText = (bytes: number): string => Array.from({ length: Math.ceil(bytes / 10) }, () => Math.random().toString(36).slice(2, 12).padEnd(10, 'x')).join('').slice(0, bytes);

async function expectEqual(kafka: MemoryKafka, where = 'true'): Promise<void> {
  const expected = await tableRows(client, 'workflow_runs', where);
  const found = logRows(kafka, 'workflow_runs');
  expect(found.size).toBe(expected.size);
  expect(found).toEqual(expected);
}

const onlyRun = (kafka: MemoryKafka): BackfillRun => {
  const runs = [...kafka.control].filter(([key]) => key.startsWith('backfill/run/'));
  expect(runs.length).toBe(1);
  return runs[0]?.[1] as BackfillRun;
};

describe('a filtered run', () => {
  test.each([
    ['one tenant of many, through its index', { tenantIds: [tenant(7)] }, `tenant_id = '${tenant(7)}'`],
    ['several tenants', { tenantIds: [tenant(3), tenant(9)] }, `tenant_id IN ('${tenant(3)}', '${tenant(9)}')`],
    ['a date range, from inclusive and before exclusive', { from: '2026-02-01 01:00', before: '2026-02-03' }, "created_at >= '2026-02-01 01:00' AND created_at < '2026-02-03'"],
    ['a tenant in a date range', { tenantIds: [tenant(0)], before: '2026-01-10' }, `tenant_id = '${tenant(0)}' AND created_at < '2026-01-10'`],
    ['nothing at all', { tenantIds: [tenant(999)] }, 'false'],
    ['more than the gaps are worth', { from: '2026-01-02' }, "created_at >= '2026-01-02'"],
  ])('reads %s and nothing else', async (_, part, where) => {
    await insertRuns(20_000, { tenants: 20 });
    const kafka = new MemoryKafka();
    const result = await backfill(here, kafka, { filter: { ...RUNS_ONLY, ...part }, workers: 2 });
    expect(result.state).toBe('done');
    await expectEqual(kafka, where);
    expect(kafka.committed().length).toBe((await tableRows(client, 'workflow_runs', where)).size);
  });

  test('reads few pages where an index finds its rows, and all where it would find most', async () => {
    await insertRuns(20_000, { tenants: 20 });
    const session = await openSession(here);
    const few = await planTable(session, 'public', 'workflow_runs', `tenant_id = '${tenant(7)}'`);
    const most = await planTable(session, 'public', 'workflow_runs', "created_at >= '2026-01-02'");
    session.close();
    expect(few?.pages?.count).toBeGreaterThan(0);
    expect(few?.pages?.count).toBeLessThan((few?.plan.blocks ?? 0) * 0.1);
    expect(most?.pages).toBeNull();
  });
});

describe('a run that was interrupted', () => {
  const batches = { filter: RUNS_ONLY, batchRows: 200 } as const;

  test('goes on where each segment was, under the same barrier, and reads nothing twice', async () => {
    await insertRuns(20_000);
    const kafka = new MemoryKafka();
    const stop = new AbortController();
    kafka.onCommit = () => {
      if (kafka.commits === 20) stop.abort();
    };
    const first = await backfill(here, kafka, { ...batches, workers: 2, signal: stop.signal });
    expect(first).toMatchObject({ state: 'stopped', resumed: false });
    const read = kafka.committed().length;
    expect(read).toBeGreaterThan(1000);
    expect(read).toBeLessThan(15_000);
    expect(onlyRun(kafka).state).toBe('open');

    kafka.onCommit = () => undefined;
    const progress: TableProgress[] = [];
    const second = await backfill(here, kafka, { ...batches, workers: 2, onProgress: (one) => progress.push(one) });
    expect(second).toMatchObject({ state: 'done', resumed: true, runId: first.runId, barrierLsn: first.barrierLsn });
    expect(progress[0]).toMatchObject({ rows: read });
    expect(progress.at(-1)).toMatchObject({ rows: 20_000, done: true });
    expect(kafka.committed().length).toBe(20_000);
    await expectEqual(kafka);
    expect(onlyRun(kafka).state).toBe('done');
  });

  test('because Kafka stayed away goes on later', async () => {
    await insertRuns(5000);
    const kafka = new MemoryKafka();
    let sends = 0;
    kafka.onSend = () => {
      if (++sends > 3) throw new Error('no leader');
    };
    await expect(backfill(here, kafka, { ...batches, retryForMs: 300 })).rejects.toThrow('no leader');
    expect(onlyRun(kafka).state).toBe('open');
    kafka.onSend = () => undefined;
    expect(await backfill(here, kafka, batches)).toMatchObject({ state: 'done', resumed: true });
    await expectEqual(kafka);
  });

  test('fences the writers of a process that died, and none of one that left in order', async () => {
    await insertRuns(5000);
    const kafka = new MemoryKafka();
    let sends = 0;
    kafka.onSend = () => {
      if (++sends > 3) throw new TypeError('as good as killed');
    };
    await expect(backfill(here, kafka, { ...batches, workers: 3 })).rejects.toThrow('as good as killed');
    const dead = [...kafka.openings.keys()];
    const stop = new AbortController();
    kafka.onSend = () => undefined;
    kafka.onCommit = () => stop.abort();
    await backfill(here, kafka, { ...batches, workers: 2, signal: stop.signal });
    const left = [...kafka.openings.keys()].filter((writer) => !dead.includes(writer));
    kafka.onCommit = () => undefined;
    await backfill(here, kafka, batches);
    expect(dead.map((writer) => kafka.openings.get(writer))).toEqual([2, 2, 2]);
    expect(left.map((writer) => kafka.openings.get(writer))).toEqual([1, 1]);
    expect([...kafka.control.keys()].filter((key) => /^backfill\/(member|beat)/.test(key))).toEqual([]);
    await expectEqual(kafka);
  });

  test('after a rewrite of the table begins its scan again', async () => {
    await insertRuns(5000);
    const kafka = new MemoryKafka();
    const stop = new AbortController();
    kafka.onCommit = () => {
      if (kafka.commits === 3) stop.abort();
    };
    await backfill(here, kafka, { ...batches, signal: stop.signal });
    kafka.onCommit = () => undefined;
    await client.query('VACUUM FULL workflow_runs');
    const result = await backfill(here, kafka, batches);
    expect(result).toMatchObject({ resumed: true, tables: [{ scan: 2, rows: 5000, done: true }] });
    await expectEqual(kafka);
  });

  test('refuses another filter until it is done or abandoned', async () => {
    await insertRuns(5000);
    const kafka = new MemoryKafka();
    const stop = new AbortController();
    kafka.onCommit = () => stop.abort();
    await backfill(here, kafka, { ...batches, signal: stop.signal });
    kafka.onCommit = () => undefined;
    const other = { ...batches, filter: { ...RUNS_ONLY, tenantIds: [tenant(0)] } };
    await expect(backfill(here, kafka, other)).rejects.toMatchObject({ code: 'RUN_OPEN' });
    // Refused before it could have fenced a run that is alive.
    expect(new Set(kafka.openings.values())).toEqual(new Set([1]));
    await abandonRuns(kafka.controlLog());
    expect(await backfill(here, kafka, other)).toMatchObject({ state: 'done', resumed: false });
  });

  test('of an older epoch is void, and a new one begins', async () => {
    await insertRuns(5000);
    const kafka = new MemoryKafka();
    const stop = new AbortController();
    kafka.onCommit = () => stop.abort();
    const first = await backfill(here, kafka, { ...batches, signal: stop.signal });
    kafka.onCommit = () => undefined;
    const second = await backfill(here, kafka, { ...batches, source: { epoch: 2, slot: here.slot } });
    expect(second).toMatchObject({ state: 'done', resumed: false });
    expect(kafka.control.get(`backfill/run/${first.runId}`)).toMatchObject({ state: 'void' });
    await expectEqual(kafka);
  });
});

describe('a run', () => {
  test('stops when it is abandoned, or when a new epoch begins, while it reads', async () => {
    await insertRuns(5000);
    for (const end of [(kafka: MemoryKafka) => void abandonRuns(kafka.controlLog()), (kafka: MemoryKafka) => kafka.put('epoch', { epoch: 2, slot: here.slot })]) {
      const kafka = new MemoryKafka();
      kafka.onCommit = () => {
        if (kafka.commits === 2) end(kafka);
      };
      await expect(backfill(here, kafka, { filter: RUNS_ONLY, batchRows: 200 })).rejects.toMatchObject({ code: 'RUN_VOID' });
    }
  });

  test('whose server goes away while it waits at the barrier says so', async () => {
    await client.query('BEGIN');
    await client.query('SELECT pg_current_xact_id()');
    const ended = backfill(here, new MemoryKafka(), {
      filter: RUNS_ONLY,
      onBlocked: () => void client.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%migrate%' AND pid <> pg_backend_pid()"),
    });
    await expect(ended).rejects.toMatchObject({ code: 'PG_UNREACHABLE', exitCode: 3 });
    await client.query('ROLLBACK');
  });

  test('ends within the time of grace though Kafka hangs', async () => {
    await insertRuns(500);
    const kafka = new MemoryKafka();
    const stop = new AbortController();
    kafka.onSend = () => {
      stop.abort();
      return new Promise(() => undefined);
    };
    // Kafka never answers: whoever waited for it would wait for ever.
    expect(await backfill(here, kafka, { filter: RUNS_ONLY, signal: stop.signal })).toMatchObject({ state: 'stopped' });
    expect(kafka.committed()).toEqual([]);
  });

  test('is refused, and leaves nothing open, while cleanup-pg holds its lock; cleanup-pg is kept out while it reads', async () => {
    await insertRuns(2000);
    const kafka = new MemoryKafka();
    await client.query(`SELECT pg_advisory_lock(${BACKFILL_LOCK[0]}, ${BACKFILL_LOCK[1]})`);
    await expect(backfill(here, kafka, { filter: RUNS_ONLY })).rejects.toMatchObject({ code: 'CLEANUP_RUNNING' });
    await client.query(`SELECT pg_advisory_unlock(${BACKFILL_LOCK[0]}, ${BACKFILL_LOCK[1]})`);
    expect(kafka.control.size).toBe(0);
    const tries: boolean[] = [];
    kafka.onSend = async () => {
      const { rows } = await client.query(`SELECT pg_try_advisory_lock(${BACKFILL_LOCK[0]}, ${BACKFILL_LOCK[1]}) AS got`);
      tries.push(rows[0].got);
    };
    await backfill(here, kafka, { filter: RUNS_ONLY });
    expect(new Set(tries)).toEqual(new Set([false]));
  });

  test('is recorded open before its first record, and asks the brake before each chunk', async () => {
    await insertRuns(3000);
    const kafka = new MemoryKafka();
    let asked = 0;
    let sends = 0;
    kafka.onSend = () => {
      sends++;
      expect(onlyRun(kafka).state).toBe('open');
      expect(asked).toBeGreaterThanOrEqual(sends);
    };
    await backfill(here, kafka, { filter: RUNS_ONLY, batchRows: 200, mayProceed: async () => void asked++ });
    expect(sends).toBeGreaterThan(5);
  });

  test('takes back BACKFILL REQUIRED of the tables it read whole', async () => {
    await insertRuns(10);
    const kafka = new MemoryKafka();
    const required = { table: 'workflow_runs', reason: 'first-run', sinceLsn: '0/1', sinceEpoch: 1, reconcile: false, at: 'x' };
    kafka.put('backfill/required/workflow_runs', required);
    kafka.put('backfill/required/workflow_app_logs', { ...required, table: 'workflow_app_logs' });
    expect(await backfill(here, kafka, { filter: { ...RUNS_ONLY, tenantIds: [tenant(0)] } })).toMatchObject({ stillRequired: ['workflow_runs', 'workflow_app_logs'] });
    expect(await backfill(here, kafka, { filter: RUNS_ONLY })).toMatchObject({ stillRequired: ['workflow_app_logs'] });
  });

  test('refuses a partitioned table, a view and an unlogged table', async () => {
    for (const ddl of [
      'CREATE TABLE workflow_runs (id uuid, tenant_id uuid, created_at timestamp) PARTITION BY RANGE (created_at)',
      'CREATE UNLOGGED TABLE workflow_runs (id uuid, tenant_id uuid, created_at timestamp)',
      'CREATE TABLE workflow_runs (id uuid, created_at timestamp)',
    ]) {
      await client.query('DROP TABLE workflow_runs');
      await client.query(ddl);
      const kafka = new MemoryKafka();
      await expect(backfill(here, kafka, { filter: RUNS_ONLY })).rejects.toMatchObject({ code: 'TABLE_UNSUITABLE' });
      expect(kafka.control.size).toBe(0);
    }
  });

  test('reads nothing silently less where row security hides rows from its role', async () => {
    await insertRuns(10);
    const role = `${here.slot}_reader`;
    await client.query(`CREATE ROLE ${role} LOGIN; GRANT SELECT ON workflow_runs TO ${role}; ALTER TABLE workflow_runs ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON workflow_runs USING (false)`);
    const connect = async (): Promise<pg.Client> => {
      const one = await pinned(here)();
      await one.query(`SET ROLE ${role}`);
      return one;
    };
    await expect(backfill(here, new MemoryKafka(), { connect, filter: RUNS_ONLY })).rejects.toMatchObject({ code: '42501' });
    await client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });

  test('holds 25 rows of 8 MB in one page without holding them at once', async () => {
    await insertRuns(25, { bytes: 8 << 20 });
    expect((await client.query("SELECT pg_relation_size('workflow_runs') / 8192 AS pages")).rows[0].pages).toBe('1');
    const kafka = new MemoryKafka();
    const sizes: number[] = [];
    let rows = 0;
    kafka.onSend = (records) => {
      rows += records.length;
      sizes.push(records.reduce((sum, record) => sum + (record.row?.cells.size ?? 0), 0));
      // The stand-in keeps what it is sent; here only the sizes matter.
      kafka.entries.splice(0);
    };
    const result = await backfill(here, kafka, { filter: RUNS_ONLY });
    expect(result.tables).toMatchObject([{ done: true }]);
    expect(rows).toBe(25);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(32 << 20);
  });
});

test('beside a live Dify ends with whole rows that were true when their chunk was committed', async () => {
  await insertRuns(3000);
  const writer = startLiveWriter({ connect: pinned(here), seed: 11, connections: 3, deletes: 0.3 });
  await writer.reached(200);
  const kafka = new MemoryKafka();
  let commits = 0;
  kafka.onSend = () => writer.reached(200 + ++commits * 3);
  const result = await backfill(here, kafka, { workers: 3, batchRows: 100 });
  expect(result.state).toBe('done');
  expect((await writer.stop()).errors).toBe(0);
  // Rows that nobody touched since are in the log; what was touched later is the stream's.
  const log = logRows(kafka, 'workflow_runs');
  const now = await tableRows(client, 'workflow_runs');
  const untouched = [...now].filter(([, row]) => row['triggered_from'] === 'app-run' && row['version'] === 'draft' && row['graph'] === null);
  expect(untouched.length).toBe(3000);
  for (const [id, row] of untouched) expect(log.get(id)).toEqual(row);
}, 60_000);
