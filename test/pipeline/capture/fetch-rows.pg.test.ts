import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Relation } from '../../../src/core/contracts.ts';
import { LOOKUP_SETTINGS, rowFetcher } from '../../../src/pipeline/capture/fetch-rows.ts';
import { connect } from '../../../src/pipeline/capture/pg-connection.ts';
import { isolate } from '../../support/servers.ts';
import { insertRun, longText, openSource, targetOf } from './harness.ts';

const here = isolate(import.meta.filename);
let client: pg.Client;
let relation: Relation;

beforeAll(async () => {
  client = await openSource(here, { slot: false });
});
afterAll(() => client.end());
beforeEach(async () => {
  const { rows } = await client.query<{ oid: number; columns: string[] }>(
    `SELECT attrelid::int AS oid, array_agg(attname::text ORDER BY attnum) AS columns FROM pg_attribute
     WHERE attrelid = 'workflow_runs'::regclass AND attnum > 0 AND NOT attisdropped GROUP BY attrelid`);
  relation = { oid: rows[0]!.oid, shape: { table: 'workflow_runs', columns: rows[0]!.columns }, replicaIdentity: 'index' };
});

const text = (cells: readonly (Buffer | null)[] | null | undefined): (string | null)[] | null | undefined => cells?.map((cell) => cell?.toString() ?? null) ?? (cells as null | undefined);

test('rows come with the columns asked for, as the server prints them, and null for a row that is not there', async () => {
  const id = await insertRun(client, { graph: '漢字 🦉', inputs: null });
  const missing = randomUUID();
  const answer = await rowFetcher(client, { schema: 'public', maxBytes: 1_000 })(relation, [id, missing], ['graph', 'inputs', 'created_at', 'elapsed_time']);
  expect(answer.columns).toEqual(['graph', 'inputs', 'created_at', 'elapsed_time']);
  expect(text(answer.rows.get(id))).toEqual(['漢字 🦉', null, '2025-10-10 08:25:41.123456', '0']);
  expect(answer.rows.get(missing)).toBeNull();
});

test('an answer ends once enough bytes have come together, but never before the first row', async () => {
  const ids = [await insertRun(client, { graph: longText(50_000) }), await insertRun(client, { graph: longText(50_000) }), await insertRun(client, { graph: longText(50_000) })];
  const order = [ids[2]!, ids[0]!, ids[1]!];
  for (const [maxBytes, count] of [[1, 1], [50_000, 1], [50_001, 2], [1_000_000, 3]] as const) {
    const { rows } = await rowFetcher(client, { schema: 'public', maxBytes })(relation, order, ['graph']);
    expect([...rows.keys()]).toEqual(order.slice(0, count));
  }
});

test('columns that changed their meaning since they were first asked about are missing, and the others are there', async () => {
  await client.query('ALTER TABLE workflow_runs ADD COLUMN a text, ADD COLUMN b text, ADD COLUMN c text, ADD COLUMN d text');
  const wide: Relation = { ...relation, shape: { table: 'workflow_runs', columns: [...relation.shape.columns, 'a', 'b', 'c', 'd'] } };
  const id = await insertRun(client, { graph: 'g' });
  await client.query(`UPDATE workflow_runs SET a = 'A', b = 'B', c = 'C', d = 'D' WHERE id = $1`, [id]);
  const fetch = rowFetcher(client, { schema: 'public', maxBytes: 1_000 });
  const columns = ['graph', 'a', 'b', 'c', 'd'];
  expect(text((await fetch(wide, [id], columns)).rows.get(id))).toEqual(['g', 'A', 'B', 'C', 'D']);
  // a and b change their names with each other, c goes, d is dropped and comes again as another column.
  for (const statement of ['RENAME a TO x', 'RENAME b TO a', 'RENAME x TO b', 'DROP c', 'DROP d', `ADD d text DEFAULT 'other'`]) await client.query(`ALTER TABLE workflow_runs ${statement}`);
  const answer = await fetch(wide, [id], columns);
  expect([answer.columns, text(answer.rows.get(id))]).toEqual([['graph'], ['g']]);
  await client.query('ALTER TABLE workflow_runs DROP a, DROP b, DROP d');
});

test('columns whose names are swapped between two questions are missing, though no name is', async () => {
  await client.query('ALTER TABLE workflow_runs ADD COLUMN a text, ADD COLUMN b text');
  const wide: Relation = { ...relation };
  const id = await insertRun(client);
  await client.query(`UPDATE workflow_runs SET a = 'A', b = 'B' WHERE id = $1`, [id]);
  const fetch = rowFetcher(client, { schema: 'public', maxBytes: 1_000 });
  await fetch(wide, [id], ['a', 'b']);
  for (const statement of ['RENAME a TO x', 'RENAME b TO a', 'RENAME x TO b']) await client.query(`ALTER TABLE workflow_runs ${statement}`);
  const answer = await fetch(wide, [id], ['a', 'graph', 'b']);
  expect([answer.columns, text(answer.rows.get(id))]).toEqual([['graph'], ['{}']]);
  await client.query('ALTER TABLE workflow_runs DROP a, DROP b');
});

test('with every column gone the row is still found', async () => {
  await client.query('ALTER TABLE workflow_runs ADD COLUMN a text');
  const id = await insertRun(client);
  const fetch = rowFetcher(client, { schema: 'public', maxBytes: 1_000 });
  await client.query('ALTER TABLE workflow_runs DROP a');
  const answer = await fetch({ ...relation }, [id], ['a']);
  expect([answer.columns, answer.rows.get(id)]).toEqual([[], []]);
});

test('with the table gone every row is', async () => {
  const id = randomUUID();
  const gone: Relation = { ...relation, shape: { ...relation.shape } };
  const answer = await rowFetcher(client, { schema: 'no_such_schema', maxBytes: 1_000 })(gone, [id], ['graph']);
  expect(answer.rows.get(id)).toBeNull();
});

test('ids are looked up by the primary key, however many there are', async () => {
  await client.query(
    `INSERT INTO workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by)
     SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'web-app', 'account', gen_random_uuid() FROM generate_series(1, 50000)`);
  await client.query('ANALYZE workflow_app_logs');
  const reader = await connect(targetOf(here.env), { role: 'test', settings: LOOKUP_SETTINGS });
  const plans: string[] = [];
  const spy = {
    query: async (config: pg.QueryConfig): Promise<pg.QueryResult> => {
      if (config.text.includes('unnest')) plans.push(JSON.stringify((await reader.query(`EXPLAIN (FORMAT JSON) ${config.text}`, config.values)).rows));
      return reader.query(config);
    },
  };
  const { rows } = await client.query<{ id: string }>('SELECT id FROM workflow_app_logs LIMIT 500');
  const logs: Relation = { ...relation, oid: (await client.query<{ oid: number }>(`SELECT 'workflow_app_logs'::regclass::int AS oid`)).rows[0]!.oid, shape: { table: 'workflow_app_logs', columns: ['id', 'created_from'] } };
  await rowFetcher(spy as never, { schema: 'public', maxBytes: 1 << 20 })(logs, rows.map(({ id }) => id), ['created_from']);
  expect(plans[0]).toContain('workflow_app_log_pkey');
  expect(plans[0]).not.toContain('Seq Scan');
  await reader.end();
});
