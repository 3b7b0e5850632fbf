import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { insertRows } from '../support/dify/copy.ts';
import { edgeCaseRows } from '../support/dify/edge-cases.ts';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema, DIFY_TABLES } from '../support/dify/schema.ts';
import { Pipeline } from '../support/pipeline.ts';
import type { Program } from '../support/program.ts';
import { isolate } from '../support/servers.ts';

/*
 * P1, P2, P3 and P5 on the whole path: the real program against real servers while Dify writes, compared field by
 * field by an oracle that shares no code with it. One story; each test goes on where the one before ended.
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '3', MIGRATE_BATCH_SIZE: '50' });
let db: pg.Client;
let tenants: readonly string[] = [];
let stream: Program;
let sink: Program;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  ({ tenants } = await loadDataset(db, { seed: 11, tenants: 2, runs: 120, nodesPerRun: 3, months: ['2026-07', '2026-08'] }));
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

describe('the path from PostgreSQL to Elasticsearch', () => {
  it('holds the same on both ends after setup, stream, sink and migrate, while the application writes all along', async () => {
    const writer = pipeline.write({ seed: 12, tenantIds: tenants, writesPerSecond: 40 });
    await pipeline.verb(['setup']);
    [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
    await pipeline.verb(['migrate']);
    await writer.reached(150);
    const { transactions, errors } = await writer.stop();
    expect(errors).toBe(0);
    expect(await pipeline.equal()).toBeGreaterThan(600);
    expect(transactions).toBeGreaterThanOrEqual(150);
  });

  it('holds the same after rows that no generator thinks of', async () => {
    const { rows } = edgeCaseRows({ largest: 300_000, tenantId: tenants[0]! });
    for (const table of DIFY_TABLES) await insertRows(db, table, rows[table]);
    await pipeline.equal();
  });

  it('holds the same after kill -9 of the reader under load', async () => {
    const writer = pipeline.write({ seed: 13, tenantIds: tenants, writesPerSecond: 80 });
    await writer.reached(60);
    await stream.kill9();
    await writer.reached(100);
    stream = await pipeline.start('stream');
    await writer.reached(140);
    await writer.stop();
    await pipeline.equal();
  });

  it('holds the same after kill -9 of the sink under load', async () => {
    const writer = pipeline.write({ seed: 14, tenantIds: tenants, writesPerSecond: 80 });
    await writer.reached(60);
    await sink.kill9();
    await writer.reached(100);
    sink = await pipeline.start('sink');
    await writer.reached(140);
    await writer.stop();
    await pipeline.equal();
  });

  it('resumes a migrate that was killed, beside the writer', async () => {
    await pipeline.emptied();
    const writer = pipeline.write({ seed: 15, tenantIds: tenants, writesPerSecond: 40 });
    const first = pipeline.spawn(['migrate', '--batch-size', '10', '--rate', '150']);
    // The advisory lock would come too early: it is taken before there is a run to resume.
    await first.said('backfill: run is open');
    await writer.reached(60);
    expect(first.isRunning(), first.describe()).toBe(true);
    await first.kill9();
    expect(JSON.parse(await pipeline.verb(['migrate', '--json']))).toMatchObject({ state: 'done', resumed: true });
    await writer.stop();
    await pipeline.equal();
  });

  it('follows deletes, re-inserts under the same id and moves to another tenant and month', async () => {
    const [a, b] = tenants;
    const changed = async (sql: string, values: unknown[] = []): Promise<void> => expect((await db.query(sql, values)).rowCount, sql).toBeGreaterThan(0);
    await changed("DELETE FROM workflow_node_executions WHERE id IN (SELECT id FROM workflow_node_executions ORDER BY id LIMIT 30)");
    await changed('UPDATE workflow_runs SET tenant_id = $2 WHERE id IN (SELECT id FROM workflow_runs WHERE tenant_id = $1 ORDER BY id LIMIT 20)', [a, b]);
    await changed("UPDATE workflow_app_logs SET created_at = created_at - interval '1 month' WHERE id IN (SELECT id FROM workflow_app_logs ORDER BY id LIMIT 20)");
    await changed("UPDATE workflow_node_executions SET created_at = created_at + interval '40 days', tenant_id = $2 WHERE id IN (SELECT id FROM workflow_node_executions WHERE tenant_id = $1 ORDER BY id DESC LIMIT 15)", [b, a]);
    await db.query('BEGIN; CREATE TEMP TABLE again ON COMMIT DROP AS SELECT * FROM workflow_runs ORDER BY id LIMIT 10; DELETE FROM workflow_runs WHERE id IN (SELECT id FROM again); INSERT INTO workflow_runs SELECT * FROM again; COMMIT');
    await pipeline.equal();
  });

  it('keeps the documents of a truncated table, and takes what is written after it', async () => {
    const before = new Set((await db.query<{ id: string }>('SELECT id FROM workflow_app_logs')).rows.map(({ id }) => id));
    await db.query('TRUNCATE workflow_app_logs');
    const writer = pipeline.write({ seed: 16, tenantIds: tenants, deletes: 0 });
    await writer.reached(60);
    await writer.stop();
    const kept = (key: { table: string; kind: string; id: string }): boolean => key.table === 'workflow_app_logs' && key.kind === 'extra' && before.has(key.id);
    await pipeline.equal({ ignore: kept });
    const report = await pipeline.oracle({ ignore: kept });
    expect(report.tables.workflow_app_logs).toMatchObject({ ignored: before.size });
    expect(report.tables.workflow_app_logs?.equal).toBeGreaterThan(0);
  });

  it('stops cleanly on SIGTERM', async () => {
    await stream.stop();
    await sink.stop();
  });
});
