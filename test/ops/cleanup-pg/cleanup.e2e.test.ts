import type pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CLEANUP_MARKER } from '../../../src/core/contracts.ts';
import { stateKeys, type BackfillRun, type CleanupRun, type ControlLog, type SwitchedRecord } from '../../../src/core/state.ts';
import { PUBLICATION_COMMENT } from '../../../src/ops/setup/names.ts';
import type { CleanupReport } from '../../../src/ops/cleanup-pg/report.ts';
import { createKafka } from '../../../src/pipeline/kafka/client.ts';
import { openControlLog } from '../../../src/pipeline/kafka/control-log.ts';
import { createLetterWriter } from '../../../src/pipeline/kafka/dead-letters.ts';
import { topicNames } from '../../../src/pipeline/kafka/topics.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { Pipeline } from '../../support/pipeline.ts';
import { isolate } from '../../support/servers.ts';
import { Archive } from './archive.ts';

const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
const silent = pino({ level: 'silent' });
const BEFORE = '2025-02-01';
let db: pg.Client;
let archive: Archive;
let tenant = '';
let other = '';
/** A run, and a node of another run, that are not at their end. */
let unfinished: string[] = [];

interface Row {
  readonly id: string;
  readonly tenant_id: string;
  readonly created_at: string;
}

const cleanup = async (...more: string[]): Promise<CleanupReport & { warnings: string[] }> =>
  JSON.parse(await pipeline.verb(['cleanup-pg', '--tenant-id', tenant, '--before-date', BEFORE, '--batch-size', '20', '--pause', '0', '--json', ...more])) as CleanupReport & { warnings: string[] };
const counts = (report: CleanupReport) => Object.fromEntries(report.tables.map(({ table, looked, deleted, stayed }) => [table, { looked, deleted, stay: Object.fromEntries(Object.entries(stayed).filter(([, count]) => count > 0)) }]));
const inScope = async (table: string): Promise<number> => (await db.query(`SELECT FROM ${table} WHERE tenant_id = $1 AND created_at < $2`, [tenant, BEFORE])).rowCount!;
const outOfScope = async (): Promise<unknown> =>
  (await db.query(`SELECT (SELECT count(*) FROM workflow_runs WHERE NOT (tenant_id = $1 AND created_at < $2)) AS runs, (SELECT count(*) FROM workflow_node_executions WHERE NOT (tenant_id = $1 AND created_at < $2)) AS nodes,
    (SELECT count(*) FROM workflow_app_logs WHERE NOT (tenant_id = $1 AND created_at < $2)) AS logs, (SELECT count(*) FROM workflow_node_execution_offload WHERE NOT (tenant_id = $1 AND created_at < $2)) AS offload`, [tenant, BEFORE])).rows;
const rows = async (sql: string, values: unknown[]): Promise<Row[]> => (await db.query<Row>(sql, values)).rows;
async function setStatus(run: string, node: string): Promise<void> {
  await db.query('UPDATE workflow_runs SET status = $1 WHERE id = $2', [run, unfinished[0]]);
  await db.query('UPDATE workflow_node_executions SET status = $1 WHERE id = $2', [node, unfinished[1]]);
}
const documentOf = (index: string, { id, tenant_id: owner, created_at: createdAt }: Row): string => `${here.elasticsearchUrl}/${here.indexPrefix}-${index}-${owner}-${createdAt.slice(0, 7).replace('-', '.')}/_doc/${id}`;
const exists = async (url: string): Promise<boolean> => ((await (await fetch(url)).json()) as { found: boolean }).found;

async function withControl<T>(use: (control: ControlLog) => Promise<T>): Promise<T> {
  const control = await openControlLog({ kafka: createKafka({ brokers: here.brokers, clientId: 'test' }, silent), topic: topicNames(here.topicPrefix).control, logger: silent });
  try {
    return await use(control);
  } finally {
    await control.close();
  }
}

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  const data = await loadDataset(db, { seed: 5, tenants: 2, runs: 60, nodesPerRun: 2, rowSize: 1800, offloadShare: 0.3, months: ['2025-01', '2025-02'] });
  [tenant, other] = [data.tenants[0]!, data.tenants[1]!];
  archive = await Archive.open(here.env);
  await pipeline.verb(['setup']);
  await pipeline.start('run');
  await pipeline.verb(['migrate']);
  await pipeline.drained();
});
afterAll(async () => {
  await pipeline.killAll();
  await archive?.close();
  await db?.end();
});

describe('cleanup-pg', () => {
  it('refuses what is no tenant and no date before anything is touched', async () => {
    await pipeline.verb(['cleanup-pg'], 2);
    await pipeline.verb(['cleanup-pg', '--tenant-id', '*', '--before-date', BEFORE], 2);
    await pipeline.verb(['cleanup-pg', '--tenant-id', `${tenant},${other}`, '--before-date', BEFORE], 2);
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
    for (const future of ['2999-01-01', tomorrow]) await pipeline.verb(['cleanup-pg', '--tenant-id', tenant, '--before-date', future], 2);
    await pipeline.verb(['cleanup-pg', '--tenant-id', tenant, '--before-date', "2025-01-01' OR true --"], 2);
  });

  it('refuses while a backfill is open, also one whose process is gone', async () => {
    const open: BackfillRun = { runId: 'x', state: 'open', epoch: 1, slot: here.slot, barrierLsn: '0/1', filter: { tables: [], tenantIds: [], from: null, before: null }, tables: {}, startedAt: '2025-01-01T00:00:00Z', endedAt: null };
    await withControl((control) => control.put(stateKeys.run('x'), open));
    expect(await pipeline.verb(['cleanup-pg', '--tenant-id', tenant, '--before-date', BEFORE, '--json'], 1)).toContain('CLEANUP_REFUSED');
    await withControl((control) => control.remove(stateKeys.run('x')));
    expect(await archive.count()).toBe(0);
  });

  it('refuses while another installation publishes these tables, unless told otherwise', async () => {
    await db.query(`CREATE PUBLICATION other_dify_es FOR TABLE workflow_runs; COMMENT ON PUBLICATION other_dify_es IS '${PUBLICATION_COMMENT.replaceAll("'", "''")}'; CREATE PUBLICATION of_somebody FOR TABLE workflow_runs`);
    const answer = await pipeline.verb(['cleanup-pg', '--tenant-id', tenant, '--before-date', BEFORE, '--json'], 1);
    expect(answer).toContain('CLEANUP_REFUSED');
    expect(answer).toMatch(/other_dify_es.*teardown/);
    expect(answer).not.toContain('of_somebody');
    expect(await withControl(async (control) => control.entries(stateKeys.cleanup('')))).toEqual([]);
    await cleanup('--dry-run', '--force');
    await db.query('DROP PUBLICATION other_dify_es; DROP PUBLICATION of_somebody');
  });

  it('leaves rows without an equal document and their parents, unfinished runs and nodes with what belongs to them, deletes the others, and no document', async () => {
    const [node] = await rows('SELECT n.id::text, n.tenant_id::text, n.created_at::text FROM workflow_node_executions n WHERE tenant_id = $1 AND created_at < $2 LIMIT 1', [tenant, BEFORE]);
    const [log, parked] = await rows(
      `SELECT l.id::text, l.tenant_id::text, l.created_at::text FROM workflow_app_logs l WHERE tenant_id = $1 AND created_at < $2
       AND workflow_run_id <> (SELECT workflow_run_id FROM workflow_node_executions WHERE id = $3) LIMIT 2`, [tenant, BEFORE, node!.id]);
    await fetch(documentOf('workflow-node-executions', node!), { method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{"title":"other"}' });
    await fetch(documentOf('workflow-app-logs', log!), { method: 'DELETE' });
    const letters = createLetterWriter(createKafka({ brokers: here.brokers, clientId: 'test' }, silent), topicNames(here.topicPrefix));
    await letters.park([{ cause: 'refused', detail: 'test', table: 'workflow_app_logs', key: { id: parked!.id, tenantId: tenant, createdAt: parked!.created_at }, version: null, origin: { stage: 'sink' }, value: null }]);
    await letters.close();

    // one run that waits for somebody, and one node of another run that has not ended
    const taken = [node, log, parked].map((row) => row!.id);
    const { rows: [open] } = await db.query<{ paused: string; node: string }>(
      `WITH free AS (SELECT r.id FROM workflow_runs r WHERE tenant_id = $1 AND created_at < $2
         AND NOT EXISTS (SELECT FROM workflow_app_logs l WHERE l.workflow_run_id = r.id AND l.id = ANY ($3)) AND NOT EXISTS (SELECT FROM workflow_node_executions n WHERE n.workflow_run_id = r.id AND n.id = ANY ($3)))
       SELECT min(id::text) AS paused, (SELECT id::text FROM workflow_node_executions WHERE workflow_run_id::text = (SELECT max(id::text) FROM free) LIMIT 1) AS node FROM free`, [tenant, BEFORE, taken]);
    unfinished = [open!.paused, open!.node];
    await setStatus('paused', 'running');
    await pipeline.drained();
    const { rows: [left] } = await db.query<{ nodes: number; logs: number; offload: number }>(
      `WITH left_nodes AS (SELECT id FROM workflow_node_executions WHERE workflow_run_id = $1 OR id = $2)
       SELECT (SELECT count(*)::int FROM left_nodes) AS nodes, (SELECT count(*)::int FROM workflow_app_logs WHERE workflow_run_id = $1) AS logs,
         (SELECT count(*)::int FROM workflow_node_execution_offload WHERE node_execution_id IN (SELECT id FROM left_nodes)) AS offload`, unfinished);
    expect([left!.nodes, left!.logs].every((count) => count > 0)).toBe(true);

    const [runs, nodes, logs, offload] = [await inScope('workflow_runs'), await inScope('workflow_node_executions'), await inScope('workflow_app_logs'), await inScope('workflow_node_execution_offload')];
    const untouched = await outOfScope();
    const expected = {
      workflow_node_execution_offload: { looked: offload, deleted: offload - left!.offload, stay: left!.offload > 0 ? { unfinished: left!.offload } : {} },
      workflow_node_executions: { looked: nodes, deleted: nodes - left!.nodes - 1, stay: { different: 1, unfinished: left!.nodes } },
      workflow_app_logs: { looked: logs, deleted: logs - left!.logs - 2, stay: { missing: 1, 'dead-lettered': 1, unfinished: left!.logs } },
    };

    const dry = await cleanup('--dry-run');
    expect(counts(dry)).toEqual({ ...expected, workflow_runs: { looked: runs, deleted: runs - 1, stay: { unfinished: 1 } } });
    expect(await archive.count()).toBe(0);

    const done = await cleanup();
    expect(counts(done)).toEqual({ ...expected, workflow_runs: { looked: runs, deleted: runs - 5, stay: { unfinished: 1, 'has-children': 4 } } });
    expect(done.warnings.join('\n')).toMatch(/no longer show.*replica.*backup.*rewrite/is);
    await pipeline.drained();
    expect(await archive.count()).toBe(offload + nodes + logs + runs - left!.offload - left!.nodes - left!.logs - 1 - 2 - 5);
    expect(await archive.lost()).toEqual([]);
    expect(await outOfScope()).toEqual(untouched);
    const runsKept = await withControl(async (control) => control.entries<CleanupRun>(stateKeys.cleanup('')).map(([, run]) => run.state));
    expect(runsKept).toEqual(['done']);
  });

  it('takes the rest once it was repaired and has ended, and a validation is not alarmed by what is gone', async () => {
    await pipeline.verb(['validate', '--full', '--repair']);
    await setStatus('succeeded', 'succeeded');
    await pipeline.drained();
    const nodes = await inScope('workflow_node_executions');
    expect(counts(await cleanup()).workflow_node_executions).toEqual({ looked: nodes, deleted: nodes, stay: {} });
    expect(await inScope('workflow_app_logs')).toBe(1);
    await pipeline.drained();
    const report = JSON.parse(await pipeline.verb(['validate', '--full', '--json'])) as { verdict: string; apart: Record<string, number> };
    expect(report).toMatchObject({ verdict: 'equal', apart: { archived: await archive.count() } });
  });

  it('works for a switched tenant: what Dify changed since in Elasticsearch keeps its row, and no document goes', async () => {
    const [changed] = await rows('SELECT id::text, tenant_id::text, created_at::text FROM workflow_app_logs WHERE tenant_id = $1 AND created_at < $2 LIMIT 1', [other, BEFORE]);
    const { rows: [before] } = await db.query<{ logs: number; runs: number }>('SELECT (SELECT count(*)::int FROM workflow_app_logs WHERE tenant_id = $1 AND created_at < $2) AS logs, (SELECT count(*)::int FROM workflow_runs WHERE tenant_id = $1 AND created_at < $2) AS runs', [other, BEFORE]);
    await withControl((control) => control.put(stateKeys.switched(other), { tenantId: other, at: new Date().toISOString(), lsn: '0/0' } satisfies SwitchedRecord));
    const url = documentOf('workflow-app-logs', changed!);
    const { _source } = (await (await fetch(url)).json()) as { _source: object };
    await fetch(url, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ ..._source, created_from: 'changed by Dify' }) });

    const program = pipeline.spawn(['cleanup-pg', '--tenant-id', other, '--before-date', BEFORE, '--pause', '0', '--json']);
    expect(await program.ended, program.describe()).toMatchObject({ code: 0 });
    const report = JSON.parse(program.stdout) as CleanupReport & { warnings: string[] };
    const said = (text: string): number => program.stderr.findIndex((line) => line.includes(text));
    expect(report.warnings.map(said).every((at) => at >= 0 && at < said('announced')), 'every warning is said before the first delete').toBe(true);
    expect(report.switched).toBe(true);
    expect(report.warnings[0]).toMatch(/Dify must read from Elasticsearch for this tenant/);
    expect(counts(report)).toMatchObject({
      workflow_app_logs: { looked: before!.logs, deleted: before!.logs - 1, stay: { different: 1 } },
      workflow_runs: { looked: before!.runs, deleted: before!.runs - 1, stay: { 'has-children': 1 } },
    });
    await pipeline.drained();
    expect(await archive.lost()).toEqual([]);
    expect(((await (await fetch(url)).json()) as { _source: object })._source).toMatchObject({ created_from: 'changed by Dify' });
    await withControl((control) => control.remove(stateKeys.switched(other)));
  });

  it('lets nobody else keep documents from their deletes by its marker', async () => {
    const [row] = await rows('SELECT id::text, tenant_id::text, created_at::text FROM workflow_app_logs WHERE tenant_id = $1 LIMIT 1', [other]);
    await db.query('BEGIN');
    await db.query('SELECT pg_logical_emit_message(true, $1, $2)', [CLEANUP_MARKER, 'never-announced']);
    await db.query('DELETE FROM workflow_app_logs WHERE id = $1', [row!.id]);
    await db.query('COMMIT');
    await pipeline.drained();
    expect(await exists(documentOf('workflow-app-logs', row!))).toBe(false);
  });
});
