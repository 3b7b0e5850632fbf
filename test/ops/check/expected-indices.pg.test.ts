import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectedIndices } from '../../../src/ops/check/postgres/expected-indices.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';
import { open } from '../support/source.ts';

const here = isolate(import.meta.filename);
let client: pg.Client;

beforeAll(async () => {
  client = await open(here.postgresUrl);
  await createDifySchema(client);
});
afterAll(() => client.end());

test('where nothing was analysed nobody can say how many indices are to come', async () => {
  expect(await expectedIndices(client, 'public')).toBeNull();
});

test('the planner\'s statistics give an upper bound: tenants times months for each table', async () => {
  await loadDataset(client, { runs: 400, nodesPerRun: 2, tenants: 3, months: ['2025-11', '2025-12', '2026-01'], seed: 3 });
  await client.query('ANALYZE');
  const { rows } = await client.query<{ real: number }>(
    ['workflow_runs', 'workflow_app_logs', 'workflow_node_executions', 'workflow_node_execution_offload']
      .map((table) => `SELECT count(DISTINCT (tenant_id, date_trunc('month', created_at)))::int AS real FROM ${table}`)
      .join(' UNION ALL '),
  );
  const real = rows.reduce((sum, row) => sum + row.real, 0);
  const expected = await expectedIndices(client, 'public');
  expect(real).toBeGreaterThan(20);
  expect(expected).toBeGreaterThanOrEqual(real);
  expect(expected).toBeLessThanOrEqual(real * 2);
});

test('a created_at without a month does not count', async () => {
  await client.query(`UPDATE workflow_runs SET created_at = 'infinity' WHERE ctid IN (SELECT ctid FROM workflow_runs LIMIT 20)`);
  await client.query('ANALYZE');
  expect(await expectedIndices(client, 'public')).toBeLessThan(100);
});
