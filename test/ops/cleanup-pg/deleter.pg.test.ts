import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CLEANUP_MARKER } from '../../../src/core/contracts.ts';
import { CHILDREN_FIRST, nextCandidates, withChildren, type Candidate } from '../../../src/ops/cleanup-pg/candidates.ts';
import { Deleter } from '../../../src/ops/cleanup-pg/deleter.ts';
import { Source } from '../../../src/ops/validate/source.ts';
import { ReadSession } from '../../../src/pipeline/backfill/read-session.ts';
import type { TableSource } from '../../../src/pipeline/backfill/table-source.ts';
import { pinned } from '../../pipeline/backfill/harness.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const TENANT = '00000000-0000-4000-8000-000000000001';
const OTHER = '00000000-0000-4000-8000-000000000002';
const SCOPE = { tenantId: TENANT, before: '2026-02-01 00:00:00' };
const RUN = 'run-1';
let db: pg.Client;
let dify: pg.Client;
let source: Source;
let table: TableSource;
let deleter: Deleter;

const target = () => ({ host: here.env['DB_HOST']!, port: Number(here.env['DB_PORT']), user: here.env['DB_USERNAME']!, password: here.env['DB_PASSWORD']!, database: here.env['DB_DATABASE']! });
const left = async (): Promise<string[]> => (await db.query<{ id: string }>('SELECT id::text FROM workflow_app_logs ORDER BY id')).rows.map(({ id }) => id);
const open = async (): Promise<TableSource> => (await source.open('workflow_app_logs'))!.source;
const idOf = (n: number): string => `00000000-0000-4000-9000-${String(n).padStart(12, '0')}`;

beforeAll(async () => {
  db = await pinned(here)();
  dify = await pinned(here)();
  source = new Source({ scanning: await pinned(here)(), lookup: dify }, 'public');
  await createDifySchema(db);
});
beforeEach(async () => {
  await db.query('TRUNCATE workflow_app_logs, workflow_runs, workflow_node_executions, workflow_node_execution_offload');
  // 1 to 4 are in scope, 5 is of the first moment that is not, 6 is another tenant's
  await db.query(
    `INSERT INTO workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
     SELECT ('00000000-0000-4000-9000-' || lpad(g::text, 12, '0'))::uuid, CASE WHEN g = 6 THEN $2 ELSE $1 END::uuid, $1::uuid, $1::uuid, $1::uuid, 'web-app', 'account', $1::uuid,
            CASE WHEN g = 5 THEN timestamp '2026-02-01' ELSE timestamp '2026-01-31 23:59:59.999999' END FROM generate_series(1, 6) g`, [TENANT, OTHER]);
  table = await open();
  deleter = await Deleter.open(target(), 'public');
  return () => deleter.close();
});
afterAll(async () => {
  await db?.end();
  await dify?.end();
});

async function all(): Promise<Candidate[]> {
  const { rows } = await db.query<Candidate>('SELECT id::text, xmin::text FROM workflow_app_logs ORDER BY id');
  return rows;
}

describe('the rows that are chosen', () => {
  it('are those of the tenant before the date, by id, page by page', async () => {
    const first = await nextCandidates(source, 'public', table, SCOPE, null, 3);
    const second = await nextCandidates(source, 'public', table, SCOPE, first.at(-1)!.id, 3);
    expect([...first, ...second].map(({ id }) => id)).toEqual([1, 2, 3, 4].map(idOf));
    expect(first[0]!.xmin).toBe((await all())[0]!.xmin);
  });

  it('are parents where a child names them, of whatever date', async () => {
    const existing = new Set(['workflow_app_logs'] as const);
    expect(await withChildren(source, 'public', 'workflow_runs', existing, 'uuid', [TENANT, OTHER])).toEqual(new Set([TENANT]));
  });
});

describe('the deleting transaction', () => {
  it('deletes what is named and in scope, and nothing out of it though it is named', async () => {
    expect(await deleter.delete(table, await all(), SCOPE, RUN)).toEqual(new Set([1, 2, 3, 4].map(idOf)));
    expect(await left()).toEqual([5, 6].map(idOf));
  });

  it('leaves a row that was changed since it was looked at', async () => {
    const rows = await all();
    await dify.query(`UPDATE workflow_app_logs SET created_from = 'openapi' WHERE id = $1`, [idOf(2)]);
    expect(await deleter.delete(table, rows, SCOPE, RUN)).toEqual(new Set([1, 3, 4].map(idOf)));
  });

  it('looks again at a row whose writer commits while it waits', async () => {
    const rows = await all();
    await dify.query('BEGIN');
    await dify.query(`UPDATE workflow_app_logs SET created_from = 'openapi' WHERE id = $1`, [idOf(2)]);
    const deleting = deleter.delete(table, rows, SCOPE, RUN);
    const { rows: [me] } = await dify.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    await expect.poll(async () => (await db.query('SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))', [me!.pid])).rowCount, { interval: 20 }).toBe(1);
    await dify.query('COMMIT');
    expect(await deleting).toEqual(new Set([1, 3, 4].map(idOf)));
    expect(await left()).toContain(idOf(2));
  });

  it('waits no longer than a moment for a row that somebody holds, and deletes the others', async () => {
    const rows = await all();
    await dify.query('BEGIN');
    await dify.query('SELECT FROM workflow_app_logs WHERE id = $1 FOR UPDATE', [idOf(3)]);
    try {
      expect(await deleter.delete(table, rows, SCOPE, RUN)).toEqual(new Set([1, 2, 4].map(idOf)));
    } finally {
      await dify.query('ROLLBACK');
    }
  });

  it('deletes nothing from a table that was altered: a new column changes rows and not their xmin', async () => {
    const rows = await all();
    await db.query(`ALTER TABLE workflow_app_logs ADD COLUMN added text DEFAULT 'x'`);
    expect(await deleter.delete(table, rows, SCOPE, RUN)).toBe('altered');
    expect(await left()).toHaveLength(6);
    expect(await deleter.delete(await open(), rows, SCOPE, RUN)).toHaveProperty('size', 4);
  });

  it('says in the log who it is before its first change', async () => {
    await db.query('CREATE PUBLICATION p FOR TABLE workflow_app_logs');
    await db.query(`ALTER TABLE workflow_app_logs REPLICA IDENTITY FULL`);
    await db.query(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, [here.slot]);
    await deleter.delete(await open(), (await all()).slice(0, 1), SCOPE, RUN);
    const { rows } = await db.query<{ data: Buffer }>(`SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'p', 'messages', 'true')`, [here.slot]);
    expect(rows.map(({ data }) => String.fromCharCode(data[0]!)).join('')).toBe('BMRDC');
    expect(rows[1]!.data.toString('latin1')).toMatch(new RegExp(`${CLEANUP_MARKER}.*${RUN}`, 's'));
  });
});

describe('what Dify may still write', () => {
  /** A run with one node, and with an offload row of that node; the log of the same number belongs to it. */
  async function addRun(n: number, runStatus: string, nodeStatus: string): Promise<void> {
    await db.query(
      `INSERT INTO workflow_runs (id, tenant_id, app_id, workflow_id, type, triggered_from, version, status, created_by_role, created_by, created_at)
       VALUES ($1, $2, $2, $2, 'workflow', 'app-run', 'draft', $3, 'account', $2, '2026-01-05')`, [idOf(n), TENANT, runStatus]);
    await db.query(
      `INSERT INTO workflow_node_executions (id, tenant_id, app_id, workflow_id, triggered_from, workflow_run_id, index, node_id, node_type, title, status, created_by_role, created_by, created_at)
       VALUES ($1, $2, $2, $2, 'workflow-run', $1, 1, 'n', 'llm', 'n', $3, 'account', $2, '2026-01-05')`, [idOf(n), TENANT, nodeStatus]);
    await db.query(
      `INSERT INTO workflow_node_execution_offload (id, created_at, tenant_id, app_id, node_execution_id, type, file_id) VALUES ($1, '2026-01-05', $2, $2, $1, 'inputs', $1)`, [idOf(n), TENANT]);
    await db.query('UPDATE workflow_app_logs SET workflow_run_id = id WHERE id = $1', [idOf(n)]);
  }
  const unfinished = async (name: (typeof CHILDREN_FIRST)[number]): Promise<number[]> =>
    (await nextCandidates(source, 'public', (await source.open(name))!.source, SCOPE, null, 100)).filter((row) => row.unfinished).map(({ id }) => Number(id.slice(-12)));

  it.each(['running', 'paused', 'scheduled', 'of a later Dify'])('a run that is %s, with its nodes, logs and offload rows', async (status) => {
    await addRun(1, status, 'succeeded');
    await addRun(2, 'succeeded', 'retry');
    for (const name of CHILDREN_FIRST) expect(await unfinished(name), name).toEqual([1]);
  });

  it.each(['running', 'paused', 'pending'])('a node that is %s, with its offload rows', async (status) => {
    await addRun(1, 'stopped', status);
    await addRun(2, 'partial-succeeded', 'exception');
    await addRun(3, 'failed', 'failed');
    for (const name of CHILDREN_FIRST) expect(await unfinished(name), name).toEqual(name.startsWith('workflow_node') ? [1] : []);
  });

  it('is looked at once more in the statement that deletes', async () => {
    await addRun(1, 'succeeded', 'succeeded');
    const chosen = await nextCandidates(source, 'public', table, SCOPE, null, 100);
    await dify.query(`UPDATE workflow_runs SET status = 'running' WHERE id = $1`, [idOf(1)]);
    expect(await deleter.delete(table, chosen, SCOPE, RUN)).toEqual(new Set([2, 3, 4].map(idOf)));
  });
});

describe('a backfill and a clean-up', () => {
  it('keep each other out', async () => {
    await expect(ReadSession.open(pinned(here))).rejects.toMatchObject({ code: 'CLEANUP_RUNNING' });
    await deleter.close();
    const session = await ReadSession.open(pinned(here));
    await expect(Deleter.open(target(), 'public')).rejects.toMatchObject({ code: 'CLEANUP_REFUSED' });
    session.close();
  });
});
