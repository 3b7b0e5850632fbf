import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CLEANUP_MARKER } from '../../../src/core/contracts.ts';
import { nextCandidates, withChildren, type Candidate } from '../../../src/ops/cleanup-pg/candidates.ts';
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
  await db.query('TRUNCATE workflow_app_logs');
  // 1 to 4 are in scope, 5 is of the first moment that is not, 6 is another tenant's
  await db.query(
    `INSERT INTO workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
     SELECT ('00000000-0000-4000-9000-' || lpad(g::text, 12, '0'))::uuid, CASE WHEN g = 6 THEN $2 ELSE $1 END::uuid, $1::uuid, $1::uuid, $1::uuid, 'web-app', 'account', $1::uuid,
            CASE WHEN g = 5 THEN timestamp '2026-02-01' ELSE timestamp '2026-01-31 23:59:59.999999' END FROM generate_series(1, 6) g`, [TENANT, OTHER]);
  table = await open();
  deleter = await Deleter.open(target());
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
    const first = await nextCandidates(source, table, SCOPE, null, 3);
    const second = await nextCandidates(source, table, SCOPE, first.at(-1)!.id, 3);
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

describe('a backfill and a clean-up', () => {
  it('keep each other out', async () => {
    await expect(ReadSession.open(pinned(here))).rejects.toMatchObject({ code: 'CLEANUP_RUNNING' });
    await deleter.close();
    const session = await ReadSession.open(pinned(here));
    await expect(Deleter.open(target())).rejects.toMatchObject({ code: 'CLEANUP_REFUSED' });
    session.close();
  });
});
