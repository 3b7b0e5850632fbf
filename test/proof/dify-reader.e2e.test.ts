import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadDataset, monthsUntil } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline } from '../support/pipeline.ts';
import { isolate } from '../support/servers.ts';

/*
 * The questions of Dify's own Elasticsearch repositories (branch test/log-refactor), body for body, asked of what was
 * migrated, and the objects they make of the answers, compared with what PostgreSQL says to Dify's SQL repositories:
 * https://github.com/langgenius/dify/blob/bac7da83f52095d7af509f36db0c41506d17de2b/api/repositories/elasticsearch_api_workflow_run_repository.py
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
const LIMIT = 20;
let db: pg.Client;
let tenant = '';
let app = '';

type Source = Readonly<Record<string, unknown>>;
interface Answer {
  readonly hits: { readonly total: { readonly value: number }; readonly hits: readonly { readonly _id: string; readonly _source: Source }[] };
}

async function ask(index: 'runs' | 'app-logs' | 'node-executions', body: object): Promise<Answer['hits']> {
  const answer = await fetch(`${here.elasticsearchUrl}/${here.indexPrefix}-workflow-${index}-${tenant}-*/_search`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  const read = (await answer.json()) as Answer;
  expect(answer.status, JSON.stringify(read)).toBe(200);
  return read.hits;
}
const term = (field: string, value: string): object => ({ term: { [field]: value } });

/** source["x"] of Python: a KeyError where the document lacks it. */
function need(source: Source, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.map((name) => {
    if (!(name in source)) throw new Error(`KeyError: ${name}`);
    return [name, source[name]];
  }));
}
const get = (source: Source, name: string, otherwise: unknown = null): unknown => (name in source ? source[name] : otherwise);

/** datetime.fromisoformat of a naive time, and isoformat of what it gave. */
function naive(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  const match = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(\.\d{6})?$/.exec(String(value));
  if (!match) throw new Error(`ValueError: Invalid isoformat string: ${String(value)}`);
  return match[0];
}

/** `_from_es_document` of the runs. json.dumps of each JSON column follows there, so a text in its place would be quoted twice. */
function runOf(source: Source): Record<string, unknown> {
  return {
    ...need(source, ['id', 'tenant_id', 'app_id', 'workflow_id', 'type', 'triggered_from', 'version', 'status', 'created_by_role', 'created_by']),
    graph: get(source, 'graph', {}), inputs: get(source, 'inputs', {}), outputs: get(source, 'outputs', {}), error: get(source, 'error'),
    elapsed_time: get(source, 'elapsed_time', 0), total_tokens: get(source, 'total_tokens', 0), total_steps: get(source, 'total_steps', 0), exceptions_count: get(source, 'exceptions_count', 0),
    created_at: naive(source['created_at']), finished_at: naive(source['finished_at']),
  };
}

const iso = (column: string): string => `CASE WHEN extract(microseconds FROM ${column})::int % 1000000 = 0 THEN to_char(${column}, 'YYYY-MM-DD"T"HH24:MI:SS') ELSE to_char(${column}, 'YYYY-MM-DD"T"HH24:MI:SS.US') END AS ${column}`;
const json = (column: string): string => `coalesce(nullif(${column}, ''), '{}')::json AS ${column}`;

/** As Dify's model has it: json.loads of the texts, numbers as numbers. */
async function runsOfPostgres(): Promise<Record<string, unknown>[]> {
  const { rows } = await db.query<Record<string, unknown>>(
    `SELECT id::text, tenant_id::text, app_id::text, workflow_id::text, type, triggered_from, version, status, created_by_role, created_by::text, ${json('graph')}, ${json('inputs')}, ${json('outputs')}, error,
      elapsed_time, total_tokens::float8, total_steps, exceptions_count, ${iso('created_at')}, ${iso('finished_at')}
     FROM workflow_runs r WHERE tenant_id = $1 AND app_id = $2 AND triggered_from = 'app-run' ORDER BY r.created_at DESC`, [tenant, app]);
  return rows;
}

/** `get_workflow_run_by_id`. */
async function runById(id: string): Promise<Record<string, unknown> | null> {
  const hits = await ask('runs', { query: { bool: { must: [term('id', id), term('tenant_id', tenant), term('app_id', app)] } }, size: 1 });
  return hits.total.value > 0 ? runOf(hits.hits[0]!._source) : null;
}

/** `get_paginated_workflow_runs`. */
async function page(lastId: string | null): Promise<{ data: Record<string, unknown>[]; hasMore: boolean }> {
  const must: object[] = [term('tenant_id', tenant), term('app_id', app), term('triggered_from', 'app-run')];
  if (lastId !== null) {
    const last = await runById(lastId);
    if (!last) throw new Error('ValueError: Last workflow run not exists');
    must.push({ range: { created_at: { lt: last['created_at'] } } });
  }
  const { hits } = await ask('runs', { query: { bool: { must } }, sort: [{ created_at: { order: 'desc' } }], size: LIMIT + 1 });
  const data = hits.map(({ _source }) => runOf(_source));
  return data.length > LIMIT ? { data: data.slice(0, -1), hasMore: true } : { data, hasMore: false };
}

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  const data = await loadDataset(db, { seed: 12, tenants: 2, runs: 180, nodesPerRun: 3, rowSize: 1800, months: monthsUntil(new Date().toISOString().slice(0, 7), 3) });
  tenant = data.tenants[0]!;
  const { rows } = await db.query<{ app_id: string }>('SELECT app_id::text FROM workflow_runs WHERE tenant_id = $1 GROUP BY app_id ORDER BY count(*) DESC LIMIT 1', [tenant]);
  app = rows[0]!.app_id;
  // one app, so that its list has several pages
  for (const table of ['workflow_runs', 'workflow_app_logs', 'workflow_node_executions']) await db.query(`UPDATE ${table} SET app_id = $2 WHERE tenant_id = $1`, [tenant, app]);
  await db.query(`UPDATE workflow_runs SET triggered_from = 'app-run' WHERE tenant_id = $1 AND app_id = $2`, [tenant, app]);
  // the one thing that Dify's cursor cannot do: dates of Elasticsearch end at the millisecond, so two runs of one would hide each other
  await db.query(`UPDATE workflow_runs r SET created_at = date_trunc('day', r.created_at) + n * interval '1.000123 s' FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM workflow_runs) AS numbered WHERE numbered.id = r.id`);
  await db.query('UPDATE workflow_runs SET outputs = NULL, error = NULL, finished_at = NULL, inputs = NULL WHERE id = (SELECT id FROM workflow_runs WHERE tenant_id = $1 AND app_id = $2 LIMIT 1)', [tenant, app]);
  await pipeline.verb(['setup']);
  await pipeline.start('run');
  await pipeline.verb(['migrate']);
  await pipeline.drained();
  await fetch(`${here.elasticsearchUrl}/${here.indexPrefix}-workflow-*/_refresh`, { method: 'POST' });
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

describe('on what was migrated Dify finds', () => {
  it('the list of runs of an app, page after page over the months, each run as PostgreSQL has it', async () => {
    const found: Record<string, unknown>[] = [];
    let pages = 0;
    for (let last: string | null = null, more = true; more; pages++) {
      const { data, hasMore } = await page(last);
      found.push(...data);
      more = hasMore;
      last = String(data.at(-1)!['id']);
    }
    const expected = await runsOfPostgres();
    expect(expected.length).toBeGreaterThan(LIMIT * 2);
    expect(new Set(expected.map((run) => String(run['created_at']).slice(0, 7))).size).toBe(3);
    expect(pages).toBe(Math.ceil(expected.length / LIMIT));
    expect(found).toEqual(expected);
  });

  it('one run by its id, and none of another app or tenant', async () => {
    const [first] = await runsOfPostgres();
    expect(await runById(String(first!['id']))).toEqual(first);
    const { rows: [foreign] } = await db.query<{ id: string }>('SELECT id::text FROM workflow_runs WHERE tenant_id <> $1 LIMIT 1', [tenant]);
    expect(await runById(foreign!.id)).toBeNull();
  });

  it('the nodes of a run in their order, with the names of the entity', async () => {
    const [run] = await runsOfPostgres();
    const { hits } = await ask('node-executions', {
      query: { bool: { must: [term('tenant_id', tenant), term('workflow_execution_id', String(run!['id'])), term('app_id', app), term('triggered_from', 'workflow-run')] } },
      sort: [{ index: { order: 'asc' } }, { created_at: { order: 'asc' } }], size: 10_000,
    });
    const nodes = hits.map(({ _source }) => ({
      ...need(_source, ['id', 'workflow_id', 'index', 'node_id', 'node_type', 'title', 'status']),
      workflow_execution_id: get(_source, 'workflow_execution_id'), node_execution_id: get(_source, 'node_execution_id'), predecessor_node_id: get(_source, 'predecessor_node_id'),
      inputs: get(_source, 'inputs'), process_data: get(_source, 'process_data'), outputs: get(_source, 'outputs'), error: get(_source, 'error'),
      elapsed_time: get(_source, 'elapsed_time', 0), metadata: get(_source, 'metadata', {}), created_at: naive(_source['created_at']), finished_at: naive(_source['finished_at']),
    }));
    const { rows } = await db.query(
      `SELECT id::text, workflow_id::text, index, node_id, node_type, title, status, workflow_run_id::text AS workflow_execution_id, node_execution_id, predecessor_node_id,
        inputs::json, process_data::json, outputs::json, error, elapsed_time, coalesce(execution_metadata, '{}')::json AS metadata, ${iso('created_at')}, ${iso('finished_at')}
       FROM workflow_node_executions n WHERE workflow_run_id = $1 AND triggered_from = 'workflow-run' ORDER BY index, n.created_at`, [run!['id']]);
    expect(rows).toHaveLength(3);
    expect(nodes).toEqual(rows);
  });

  it('the logs of an app by source and time, with their number', async () => {
    const { rows: [log] } = await db.query<{ created_from: string; edge: string }>(`SELECT created_from, to_char(l.created_at, 'YYYY-MM-DD"T"HH24:MI:SS') AS edge FROM workflow_app_logs l WHERE tenant_id = $1 AND app_id = $2 ORDER BY l.created_at OFFSET 5 LIMIT 1`, [tenant, app]);
    const must = [term('tenant_id', tenant), term('app_id', app), term('created_from', log!.created_from), { range: { created_at: { gte: log!.edge, lte: '9999-01-01T00:00:00' } } }];
    const answers = await Promise.all([0, LIMIT].map((from) => ask('app-logs', { query: { bool: { must } }, sort: [{ created_at: { order: 'desc' } }], size: LIMIT, from })));
    const found = answers.flatMap(({ hits }) => hits).map(({ _source }) => ({
      ...need(_source, ['id', 'tenant_id', 'app_id', 'workflow_id', 'workflow_run_id', 'created_from', 'created_by_role', 'created_by']), created_at: naive(_source['created_at']),
    }));
    const { rows } = await db.query<Record<string, unknown>>(
      `SELECT id::text, tenant_id::text, app_id::text, workflow_id::text, workflow_run_id::text, created_from, created_by_role, created_by::text, ${iso('created_at')}
       FROM workflow_app_logs l WHERE tenant_id = $1 AND app_id = $2 AND created_from = $3 AND l.created_at >= $4::timestamp ORDER BY l.created_at DESC`, [tenant, app, log!.created_from, log!.edge]);
    expect(rows.length).toBeGreaterThan(5);
    expect(answers[0]!.total.value).toBe(rows.length);
    const byId = (a: Record<string, unknown>, b: Record<string, unknown>): number => (String(a['id']) < String(b['id']) ? -1 : 1);
    expect(found.sort(byId)).toEqual(rows.slice(0, LIMIT * 2).sort(byId));
  });
});
