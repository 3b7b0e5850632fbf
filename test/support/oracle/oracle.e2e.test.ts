import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { insertRows, type TextRow } from '../dify/copy.ts';
import { edgeCaseRows } from '../dify/edge-cases.ts';
import { loadDataset } from '../dify/generator.ts';
import { createDifySchema, DIFY_TABLES, type DifyTable } from '../dify/schema.ts';
import { isolate } from '../servers.ts';
import { expectedIndex } from './contract.ts';
import { runOracle, type OracleReport } from './oracle.ts';
import { settingsFrom } from './settings.ts';

const here = isolate(import.meta.filename);
const settings = settingsFrom(here.env);
const AS_TEXT = { getTypeParser: () => (text: string) => text } as unknown as pg.CustomTypesConfig;
let client: pg.Client;

const JSON_COLUMNS: Readonly<Record<DifyTable, readonly string[]>> = {
  workflow_runs: ['graph', 'inputs', 'outputs'], workflow_app_logs: [], workflow_node_executions: ['inputs', 'process_data', 'outputs', 'execution_metadata'], workflow_node_execution_offload: [],
};
const NUMBERS = ['elapsed_time', 'total_tokens', 'total_steps', 'exceptions_count', 'index'];
const RENAMED: Readonly<Record<string, string>> = { workflow_run_id: 'workflow_execution_id', execution_metadata: 'metadata' };
/** Texts that JSON.parse accepts and that go in as text all the same; the JSON of edge-cases.ts, by a mark in it. */
const REFUSED = [/"a": 1, "(a|\\u0061)": 2/, /"k": 1, "j"/, /\d{1001}/, /^\[{901}/, /1e400/];

/** A document as a first, simple program would write it: by splicing text, without any code of the oracle. */
function bodyOf(table: DifyTable, row: TextRow): string {
  const members = Object.entries(row).flatMap(([column, text]) => {
    const name = table === 'workflow_node_executions' ? (RENAMED[column] ?? column) : column;
    if (text === null) return table === 'workflow_runs' && JSON_COLUMNS[table].includes(column) ? [`"${name}":{}`] : [];
    if (JSON_COLUMNS[table].includes(column)) return [`"${name}":${isJson(text) ? text.replaceAll(/[\r\n]/g, ' ') : JSON.stringify({ _invalid_json: text })}`];
    if (column.endsWith('_at')) return [`"${name}":"${text.replace(' ', 'T').replace(/\.\d+$/, (fraction) => fraction.padEnd(7, '0'))}"`];
    return [`"${name}":${NUMBERS.includes(column) && /\d/.test(text) ? text : JSON.stringify(text)}`];
  });
  return `{${members.join(',')},"search_text":"found by it"}`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return !REFUSED.some((pattern) => pattern.test(text));
  } catch {
    return false;
  }
}

async function es(method: string, path: string, body?: string): Promise<string> {
  const response = await fetch(new URL(path, here.elasticsearchUrl), { method, headers: { 'content-type': 'application/json' }, ...(body === undefined ? {} : { body }) });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${text.slice(0, 300)}`);
  return text;
}

async function putTemplate(): Promise<void> {
  const keyword = { type: 'keyword' };
  const object = { type: 'object', enabled: false };
  const properties = { id: keyword, tenant_id: keyword, search_text: { type: 'text' }, ...Object.fromEntries(['graph', 'inputs', 'outputs', 'process_data', 'metadata'].map((name) => [name, object])) };
  const template = { settings: { number_of_shards: 1, number_of_replicas: 0 }, mappings: { dynamic: false, _source: { excludes: ['search_text'] }, properties } };
  await es('PUT', `/_index_template/${here.indexPrefix}-t`, JSON.stringify({ index_patterns: [`${here.indexPrefix}-workflow-*`], priority: 900, template }));
}

/** Copies every row with a month into its index. */
async function copyEverything(): Promise<void> {
  let bulk = '';
  const flush = async (): Promise<void> => {
    const answer = await es('POST', '/_bulk', bulk);
    bulk = '';
    if ((JSON.parse(answer) as { errors: boolean }).errors) throw new Error(/"error":\{.{0,300}/.exec(answer)?.[0]);
  };
  for (const table of DIFY_TABLES) {
    const { rows: ids } = await client.query<{ id: string }>(`SELECT id FROM ${table}`);
    for (const { id } of ids) {
      const row = (await client.query<TextRow>(`SELECT * FROM ${table} WHERE id = $1`, [id])).rows[0] ?? {};
      const index = expectedIndex(here.indexPrefix, table, row['tenant_id'] ?? '', row['created_at'] ?? '');
      if (index) bulk += `{"index":{"_index":"${index}","_id":"${id}"}}\n${bodyOf(table, row)}\n`;
      if (bulk.length > 4e6) await flush();
    }
  }
  await flush();
}

const compare = (options: Partial<Parameters<typeof runOracle>[0]> = {}): Promise<OracleReport> => runOracle({ ...settings, ...options });

async function anyRow(table: DifyTable, where = 'true'): Promise<{ id: string; index: string; row: TextRow }> {
  const row = (await client.query<TextRow>(`SELECT * FROM ${table} WHERE ${where} AND created_at BETWEEN '2026-06-02' AND '2026-09-01' ORDER BY id LIMIT 1`)).rows[0];
  if (!row) throw new Error(`no row in ${table} where ${where}`);
  return { id: row['id'] ?? '', row, index: expectedIndex(here.indexPrefix, table, row['tenant_id'] ?? '', row['created_at'] ?? '') ?? '' };
}

beforeAll(async () => {
  client = new pg.Client({ ...settings.pg, types: AS_TEXT });
  await client.connect();
  await createDifySchema(client);
  await loadDataset(client, { seed: 1, tenants: 2, runs: 60, months: ['2026-07', '2026-08'], offloadShare: 0.3 });
  const { rows, deadLetters } = edgeCaseRows({ largest: 1_000_000 });
  for (const table of DIFY_TABLES) await insertRows(client, table, rows[table]);
  await insertRows(client, 'workflow_app_logs', deadLetters.workflow_app_logs);
  await putTemplate();
  await copyEverything();
});
afterAll(() => client.end());

test('both ends are equal after every row was copied, hostile ones and a real server\'s rewriting of numbers included', async () => {
  const report = await compare();
  expect(report.differences).toEqual([]);
  expect(report).toMatchObject({ equal: true, unknownIndices: [] });
  const counts = report.tables.workflow_node_executions;
  expect(counts).toMatchObject({ rows: Number((await client.query('SELECT count(*) AS n FROM workflow_node_executions')).rows[0].n) });
  expect(counts?.equal).toBe(counts?.rows);
  expect(report.tables.workflow_app_logs?.noMonth).toBe(4);
});

describe('a planted difference is found and named', () => {
  const put = (index: string, id: string, body: string): Promise<string> => es('PUT', `/${index}/_doc/${id}`, body);

  /** Plants, compares, mends; that mending made both ends equal again is seen in the last test of the file but one. */
  async function planted(plant: () => Promise<unknown>, mend: () => Promise<unknown>, tables: readonly DifyTable[] = DIFY_TABLES): Promise<OracleReport> {
    await plant();
    const report = await compare({ tables });
    await mend();
    expect(report.equal).toBe(false);
    return report;
  }

  const changedDocument = async (table: DifyTable, where: string, change: (body: string, row: TextRow) => string): Promise<OracleReport> => {
    const { id, index, row } = await anyRow(table, where);
    const body = bodyOf(table, row);
    const changed = change(body, row);
    expect(changed).not.toBe(body);
    return planted(() => put(index, id, changed), () => put(index, id, body), [table]);
  };

  test('a missing document', async () => {
    const { id, index, row } = await anyRow('workflow_runs');
    const report = await planted(() => es('DELETE', `/${index}/_doc/${id}`), () => put(index, id, bodyOf('workflow_runs', row)));
    expect(report.differences).toEqual([{ table: 'workflow_runs', kind: 'missing', id, index }]);
  });

  test('a document without a row', async () => {
    const { index } = await anyRow('workflow_app_logs');
    const id = 'ffffffff-ffff-4fff-8fff-ffffffffffff';
    const report = await planted(() => put(index, id, `{"id":"${id}"}`), () => es('DELETE', `/${index}/_doc/${id}`));
    expect(report.differences).toEqual([{ table: 'workflow_app_logs', kind: 'extra', id, index }]);
  });

  test('a document without an id field', async () => {
    const { index } = await anyRow('workflow_app_logs');
    const report = await planted(() => put(index, 'nameless', '{}'), () => es('DELETE', `/${index}/_doc/nameless`));
    expect(report.differences).toMatchObject([{ kind: 'extra', id: 'nameless' }]);
  });

  test('a second copy in the index of another month', async () => {
    const { id, index, row } = await anyRow('workflow_node_executions', "created_at < '2026-08-01'");
    const other = index.replace('2026.07', '2026.08');
    const report = await planted(() => put(other, id, bodyOf('workflow_node_executions', row)), () => es('DELETE', `/${other}/_doc/${id}`));
    expect(report.differences).toEqual([{ table: 'workflow_node_executions', kind: 'wrong-index', id, index: other }]);
  });

  test('an index of another name', async () => {
    const index = `${here.indexPrefix}-workflow-runs-2026.08`;
    const report = await planted(() => es('PUT', `/${index}`), () => es('DELETE', `/${index}`));
    expect(report).toMatchObject({ unknownIndices: [index], differences: [] });
  });

  test('one microsecond', async () => {
    const { differences } = await changedDocument('workflow_node_executions', 'finished_at IS NOT NULL', (body) => body.replace(/("finished_at":"[^"]*\.\d{5})(\d)"/, (_, start: string, digit: string) => `${start}${(Number(digit) + 1) % 10}"`));
    expect(differences).toMatchObject([{ kind: 'different', fields: ['finished_at'] }]);
  });

  test('another order of keys inside a JSON column', async () => {
    const { differences } = await changedDocument('workflow_node_executions', `outputs LIKE '{"result": {"text"%'`, (body, row) => {
      const outputs = JSON.parse(row['outputs'] ?? '') as { result: Record<string, unknown> };
      return body.replace(`"outputs":${row['outputs']}`, () => `"outputs":${JSON.stringify({ result: Object.fromEntries(Object.entries(outputs.result).reverse()) })}`);
    });
    expect(differences).toMatchObject([{ kind: 'different', fields: ['outputs'] }]);
  });

  test('an integer above 2^53 rounded as JavaScript rounds it', async () => {
    const { differences } = await changedDocument('workflow_runs', `graph LIKE '{"a": 9007199254740993%'`, (body) => body.replace('"a": 9007199254740993', '"a": 9007199254740992'));
    expect(differences).toMatchObject([{ kind: 'different', fields: ['graph'] }]);
    const tokens = await changedDocument('workflow_runs', 'total_tokens = 9223372036854775807', (body) => body.replace('9223372036854775807', '9223372036854775806'));
    expect(tokens.differences).toMatchObject([{ fields: ['total_tokens'] }]);
  });

  test.each([
    ['a NULL that is null instead of absent', 'workflow_runs', 'error IS NULL', '{', '{"error":null,', ['error']],
    ['valid JSON kept as text', 'workflow_runs', `graph = '{}'`, '"graph":{}', '"graph":{"_invalid_json":"{}"}', ['graph']],
    ['a field that is no column', 'workflow_app_logs', 'true', '{', '{"search_texts":"x",', ['search_texts']],
    ['a column that was dropped', 'workflow_app_logs', 'true', '"created_from":', '"was":', ['created_from', 'was']],
  ] as const)('%s', async (_, table, where, piece, other, fields) => {
    const { differences } = await changedDocument(table, where, (body) => body.replace(piece, other));
    expect(differences).toMatchObject([{ kind: 'different', fields }]);
  });

  test('a row that was updated since', async () => {
    const { id } = await anyRow('workflow_runs', "status = 'succeeded'");
    const set = (status: string): Promise<unknown> => client.query('UPDATE workflow_runs SET status = $2 WHERE id = $1', [id, status]);
    const report = await planted(() => set('stopped'), () => set('succeeded'));
    expect(report.differences).toMatchObject([{ kind: 'different', id, fields: ['status'] }]);
    expect(report.differences[0]?.example).toContain('status: expected "stopped", found "succeeded"');
  });

  test('and what the caller accepts is counted as ignored', async () => {
    const { id, index, row } = await anyRow('workflow_runs');
    await es('DELETE', `/${index}/_doc/${id}`);
    const report = await compare({ ignore: (key) => key.id === id && key.kind === 'missing' && key.tenantId === row['tenant_id'] });
    expect(report.equal).toBe(true);
    expect(report.tables.workflow_runs).toMatchObject({ ignored: 1, missing: 0 });
    const program = spawnSync(process.execPath, [join(import.meta.dirname, 'main.ts')], { env: { ...process.env, ...here.env }, encoding: 'utf8' });
    await put(index, id, bodyOf('workflow_runs', row));
    expect(program).toMatchObject({ status: 1 });
    expect(program.stdout).toContain(`missing: workflow_runs ${id}`);
  });
});

test('the program says "equal" with status 0, and 3 when a server is away', () => {
  const run = (env: Record<string, string>): ReturnType<typeof spawnSync> => spawnSync(process.execPath, [join(import.meta.dirname, 'main.ts')], { env: { ...process.env, ...here.env, ...env }, encoding: 'utf8' });
  expect(run({})).toMatchObject({ status: 0, stdout: expect.stringMatching(/\nequal\n$/) });
  expect(run({ ELASTICSEARCH_HOSTS: '["http://127.0.0.1:1"]' })).toMatchObject({ status: 3 });
});

test('an index whose ids cannot be sorted stops the comparison instead of passing it', async () => {
  const index = `${here.indexPrefix}-workflow-app-logs-00000000-0000-4000-8000-000000000001-2026.08`;
  await es('PUT', `/${index}`, JSON.stringify({ mappings: { properties: { id: { type: 'keyword', doc_values: false } } } }));
  await es('PUT', `/${index}/_doc/1?refresh=true`, '{"id":"1"}');
  await expect(compare()).rejects.toThrow();
  await es('DELETE', `/${index}`);
});
