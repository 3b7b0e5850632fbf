import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { expect } from 'vitest';
import { TABLES } from '../../../src/core/contracts.ts';
import type { SourceNames } from '../../../src/ops/setup/fitness.ts';
import { openSession } from '../../../src/ops/setup/session.ts';
import { readSource, requireReady, setUpSource } from '../../../src/ops/setup/source.ts';
import { LOCK_TIMEOUT_MS } from '../../../src/ops/setup/sql.ts';
import { readTables } from '../../../src/ops/setup/source-state.ts';
import type { StepReport } from '../../../src/ops/setup/step.ts';
import { readRemains, requireRemovable, tearDownSource } from '../../../src/ops/teardown/source.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema, dropDifySchema, type Release } from '../../support/dify/schema.ts';
import type { Isolation } from '../../support/servers.ts';

/** How long a test holds a lock. Far above LOCK_TIMEOUT_MS: what a busy machine takes must not look like waiting for it. */
export const HELD_MS = 8 * LOCK_TIMEOUT_MS;

export async function open(url: string, name = 'test'): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: name });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

export interface Run {
  readonly steps: StepReport[];
  readonly said: string[];
}

export interface RunOptions {
  readonly url?: string;
  readonly lockWaitMs?: number;
  readonly signal?: AbortSignal;
  readonly onSay?: (line: string) => void;
  readonly names?: Partial<SourceNames>;
}

export function namesOf(here: Isolation, names: Partial<SourceNames> = {}): SourceNames {
  return { schema: 'public', database: here.database, publication: here.publication, slot: here.slot, ...names };
}

/** PostgreSQL's part of `setup`, as the verb runs it. */
export async function runSetup(here: Isolation, options: RunOptions = {}): Promise<Run> {
  const names = namesOf(here, options.names);
  return withSession(here, options, async (session, run) => {
    const before = await readSource(session.work, names);
    requireReady(before, names);
    await setUpSource(session, { names, lockWaitMs: options.lockWaitMs ?? 20_000, beforeAdding: async () => undefined, report: (step) => void run.steps.push(step) }, before);
  });
}

/** PostgreSQL's part of `teardown`. */
export async function runTeardown(here: Isolation, options: RunOptions = {}): Promise<Run> {
  const names = namesOf(here, options.names);
  return withSession(here, options, async (session, run) => {
    const remains = await readRemains(session.work, names);
    requireRemovable(remains, names);
    await tearDownSource(session, { names, lockWaitMs: options.lockWaitMs ?? 20_000, report: (step) => void run.steps.push(step) }, remains);
  });
}

async function withSession(here: Isolation, options: RunOptions, work: (session: Awaited<ReturnType<typeof openSession>>, run: Run) => Promise<void>): Promise<Run> {
  const run: Run = { steps: [], said: [] };
  const say = (line: string): void => {
    run.said.push(line);
    options.onSay?.(line);
  };
  const session = await openSession({ connect: () => open(options.url ?? here.postgresUrl, 'dify-es setup'), say, signal: options.signal ?? new AbortController().signal });
  try {
    await work(session, run);
    return run;
  } finally {
    await session.close();
  }
}

/** An empty database again, with Dify's tables and a few rows in each. */
export async function freshDatabase(client: pg.Client, release: Release = 'main'): Promise<void> {
  await client.query('ROLLBACK');
  // what a failed test left open would keep the tables from being dropped
  await client.query('SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()');
  await client.query('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()');
  await client.query(`DO $$ DECLARE p name; BEGIN FOR p IN SELECT pubname FROM pg_publication LOOP EXECUTE format('DROP PUBLICATION %I', p); END LOOP; END $$`);
  await dropDifySchema(client);
  await createDifySchema(client, { release });
  await loadDataset(client, { runs: 30, nodesPerRun: 2, tenants: 2, months: ['2026-10'], seed: 1 });
}

export async function expectUntouched(client: pg.Client, here: Isolation): Promise<void> {
  expect(await sourceShape(client, here)).toEqual({ identities: Object.fromEntries(TABLES.map((table) => [table, 'default'])), indexes: [], published: [], slots: [] });
  await proveDifyWrites(client);
}

/** What is there of setup, in a form to compare. */
export async function sourceShape(client: pg.Client, here: Isolation): Promise<Record<string, unknown>> {
  const tables = await readTables(client, 'public');
  const publication = await client.query<{ name: string }>(`SELECT tablename AS name FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1`, [here.publication]);
  const slots = await client.query<{ name: string }>('SELECT slot_name AS name FROM pg_replication_slots WHERE database = current_database() ORDER BY 1');
  return {
    identities: Object.fromEntries(tables.map(({ table, identity }) => [table, identity.kind === 'index' ? `${identity.index.name}${identity.index.usable ? '' : ' UNUSABLE'}` : identity.kind])),
    indexes: tables.filter(({ ownIndex }) => ownIndex !== null).map(({ table }) => table),
    published: publication.rows.map(({ name }) => name),
    slots: slots.rows.map(({ name }) => name),
  };
}

export interface Traffic {
  /** Ends it and returns how long the slowest statement took, how many there were and what failed. */
  stop(): Promise<{ slowestMs: number; count: number; failures: string[] }>;
}

/** Dify's traffic on one table: an UPDATE, an INSERT, a SELECT and a DELETE after another, each its own transaction. */
export async function startTraffic(url: string): Promise<Traffic> {
  const client = await open(url, 'dify-api');
  const ended = new AbortController();
  const failures: string[] = [];
  let slowestMs = 0;
  let count = 0;
  const timed = async (sql: string): Promise<void> => {
    const began = performance.now();
    await client.query(sql).catch((error: { code?: string; message: string }) => failures.push(`${error.code} ${error.message}`));
    slowestMs = Math.max(slowestMs, performance.now() - began);
    count += 1;
  };
  const running = (async () => {
    while (!ended.signal.aborted) {
      for (const sql of MODIFICATIONS) await timed(sql);
      await sleep(2);
    }
  })();
  return {
    async stop() {
      ended.abort();
      await running;
      await client.end();
      return { slowestMs, count, failures };
    },
  };
}

/** The row that the traffic inserts, updates and deletes again and again. */
export const ONE = "'00000000-0000-4000-8000-000000000001'";
const INSERT = `INSERT INTO workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by) VALUES (${ONE}, ${ONE}, ${ONE}, ${ONE}, ${ONE}, 'service-api', 'account', ${ONE})`;
const MODIFICATIONS = [INSERT, `UPDATE workflow_app_logs SET created_from = 'web-app' WHERE id = ${ONE}`, 'SELECT count(*) FROM workflow_app_logs LIMIT 1', `DELETE FROM workflow_app_logs WHERE id = ${ONE}`];

/** Fails when an UPDATE or a DELETE of any table is refused, as they are with an unusable replica identity. */
export async function proveDifyWrites(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ table: string }>(`SELECT relname AS table FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'workflow\\_%' AND relkind = 'r' ORDER BY 1`);
  await client.query('BEGIN');
  for (const { table } of rows) {
    // one row each, since PostgreSQL checks the identity with the first row that is really changed
    await client.query(`UPDATE ${table} SET app_id = app_id WHERE ctid = (SELECT ctid FROM ${table} LIMIT 1)`);
    await client.query(`DELETE FROM ${table} WHERE ctid = (SELECT ctid FROM ${table} LIMIT 1)`);
  }
  await client.query('ROLLBACK');
}
