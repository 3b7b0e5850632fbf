import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../scripts/local/run.ts';
import { edgeCaseRows } from './support/dify/edge-cases.ts';
import { insertRows } from './support/dify/copy.ts';
import { loadDataset } from './support/dify/generator.ts';
import { createDifySchema, DIFY_TABLES } from './support/dify/schema.ts';
import { runOracle } from './support/oracle/oracle.ts';
import type { OracleReport } from './support/oracle/oracle.ts';
import { settingsFrom } from './support/oracle/settings.ts';
import { ownServers } from './support/servers.ts';

/*
 * The whole path once on the older releases, every connection with TLS and a password: what the other tests, on the
 * newest releases without either, cannot see.
 */
const own = ownServers();
const program = resolve(import.meta.dirname, '../bin/dify-es');
let env: Record<string, string> = {};
let client: pg.Client;
let running: ChildProcess | undefined;

beforeAll(async () => {
  const servers = await Promise.all([own.postgres({ version: '15', secure: true }), own.kafka({ secure: true }), own.elasticsearch({ version: '8', secure: true })]);
  env = { PATH: process.env['PATH'] ?? '', ...Object.assign({}, ...servers.map((server) => server.env)) as Record<string, string>, ELASTICSEARCH_INDEX_REFRESH: '1s' };
  client = new pg.Client({ connectionString: servers[0].url });
  await client.connect();
  await createDifySchema(client);
  await loadDataset(client, { seed: 7, tenants: 2, runs: 60, months: ['2026-07', '2026-08'] });
});

afterAll(async () => {
  running?.kill('SIGKILL');
  await client?.end();
});

async function verb(...args: string[]): Promise<void> {
  const result = await run(program, args, { env });
  expect(result.status, `${args.join(' ')}: ${result.stderr}`).toBe(0);
}

async function compare(): Promise<OracleReport> {
  return runOracle({ ...settingsFrom(env), list: 5 });
}

describe('PostgreSQL 15, Kafka and Elasticsearch 8 with TLS and passwords', () => {
  it('hold the same after setup, run and migrate, and after further writes', async () => {
    await verb('setup');
    running = spawn(program, ['run'], { env, stdio: 'ignore' });
    await verb('migrate');
    const moved = { timeout: 120_000, interval: 1_000 };
    await expect.poll(compare, moved).toMatchObject({ equal: true, tables: { workflow_runs: { equal: 60 }, workflow_node_executions: { equal: 300 } } });

    const { rows } = edgeCaseRows({ largest: 100_000 });
    for (const table of DIFY_TABLES) await insertRows(client, table, rows[table]);
    await client.query("update workflow_runs set status = 'stopped' where status = 'succeeded'");
    await client.query('delete from workflow_app_logs where id in (select id from workflow_app_logs limit 7)');
    await expect.poll(compare, moved).toMatchObject({ equal: true, differences: [] });
  });

  it('are left cleanly within 10 s of SIGTERM', async () => {
    running?.kill('SIGTERM');
    // After 10 s it would give up and exit with 1.
    expect(await once(running ?? expect.fail('it never ran'), 'exit')).toEqual([0, null]);
  });
});
