import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { isolate } from '../servers.ts';
import { insertRows, type TextRow } from './copy.ts';
import { edgeCaseRows } from './edge-cases.ts';
import { loadDataset, runsOf, type DatasetOptions } from './generator.ts';
import { startLiveWriter } from './live-writer.ts';
import { columnsOf, createDifySchema, DIFY_TABLES, dropDifySchema, RELEASES, type DifyTable } from './schema.ts';

const here = isolate(import.meta.filename);
const AS_TEXT = { getTypeParser: () => (text: string) => text } as unknown as pg.CustomTypesConfig;
let client: pg.Client;

const connect = async (): Promise<pg.Client> => {
  const one = new pg.Client({ connectionString: here.postgresUrl, types: AS_TEXT });
  await one.connect();
  return one;
};

beforeAll(async () => {
  client = await connect();
});
afterAll(() => client.end());
beforeEach(() => dropDifySchema(client));

const count = async (table: DifyTable): Promise<number> => Number((await client.query(`SELECT count(*) FROM public.${table}`)).rows[0].count);

describe('the schema of a release', () => {
  test.each(RELEASES)('%s takes a data set, hostile rows and a live writer', async (release) => {
    await createDifySchema(client, { release });
    const columns = await columnsOf(client);
    const loaded = await loadDataset(client, { seed: 2, tenants: 2, runs: 6, months: ['2026-08'], offloadShare: 0.5 });
    expect(loaded.rows.workflow_node_executions).toBe(30);
    const { rows, deadLetters } = edgeCaseRows({ largest: 100_000 });
    for (const table of DIFY_TABLES) {
      const inserted = (await insertRows(client, table, rows[table])) + (await insertRows(client, table, deadLetters[table]));
      expect(inserted).toBe(columns.has(table) ? rows[table].length + deadLetters[table].length : 0);
      if (columns.has(table)) expect(await count(table)).toBe(inserted + loaded.rows[table]);
    }
    const writer = startLiveWriter({ connect, seed: 3, connections: 2, deletes: 0.5 });
    await writer.reached(80);
    expect((await writer.stop()).errors).toBe(0);
  });

  test('differs from release to release as the migrations made it', async () => {
    const shapes = new Map<string, Map<DifyTable, string[]>>();
    for (const release of RELEASES) {
      await dropDifySchema(client);
      await createDifySchema(client, { release });
      shapes.set(release, await columnsOf(client));
    }
    const nodes = (release: string): string[] => shapes.get(release)?.get('workflow_node_executions') ?? [];
    expect(nodes('main')).toContain('agent_workspace_binding_id');
    expect(nodes('1.16.1')).not.toContain('agent_workspace_binding_id');
    expect([...shapes].filter(([, tables]) => !tables.has('workflow_node_execution_offload')).map(([release]) => release)).toEqual(['1.8.1', '1.4.3', '0.15.8']);
    expect(shapes.get('1.4.3')?.get('workflow_runs')?.[3]).toBe('sequence_number');
    expect(shapes.get('1.8.1')?.get('workflow_runs')).not.toContain('sequence_number');
  });
});

test('rows come back from COPY and from INSERT as the text that went in', async () => {
  await createDifySchema(client);
  const options: DatasetOptions = { seed: 5, tenants: 1, runs: 20, months: ['2026-08'] };
  await loadDataset(client, options);
  const { rows } = edgeCaseRows();
  await insertRows(client, 'workflow_runs', rows.workflow_runs);
  const stored = new Map((await client.query<TextRow>('SELECT * FROM workflow_runs')).rows.map((row) => [row['id'], row]));
  const texts = ['graph', 'inputs', 'outputs', 'error', 'status', 'total_tokens'];
  const sent = [...[...runsOf(options)].map(({ run }) => run), ...rows.workflow_runs];
  expect(stored.size).toBe(sent.length);
  for (const row of sent) for (const column of texts) if (stored.get(row['id'] ?? '')?.[column] !== row[column]) expect.fail(`${column} of ${row['id']} changed on the way`);
});

test('two connections load the same rows as one', async () => {
  const digest = async (): Promise<string> => (await client.query("SELECT string_agg(md5(t::text), '' ORDER BY id) AS all FROM workflow_node_executions t")).rows[0].all as string;
  const options: DatasetOptions = { seed: 6, tenants: 2, runs: 1100, months: ['2026-08'], rowSize: 300 };
  await createDifySchema(client);
  await loadDataset(client, options);
  const alone = await digest();
  await client.query('TRUNCATE workflow_runs, workflow_app_logs, workflow_node_executions, workflow_node_execution_offload');
  const second = await connect();
  await loadDataset([client, second], options);
  await second.end();
  expect(await digest()).toBe(alone);
});

describe('the live writer', () => {
  test('writes every kind of transaction, and what it counts is in the tables', async () => {
    await createDifySchema(client);
    const writer = startLiveWriter({ connect, seed: 4, connections: 3, deletes: 0.3, habits: { offload: 0.4, pause: 0.4 } });
    await writer.reached(700);
    const { steps, transactions, errors } = await writer.stop();
    expect(Object.entries(steps).filter(([, times]) => times === 0)).toEqual([]);
    expect(transactions).toBe(Object.values(steps).reduce((sum, times) => sum + times, 0));
    expect(errors).toBe(0);
    expect(await count('workflow_node_execution_offload')).toBe(steps['node-offload'] + steps['offload-replace']);
    expect(await count('workflow_app_logs')).toBeLessThan(steps['app-log']);
  });

  test('keeps to its rate', async () => {
    await createDifySchema(client);
    const began = performance.now();
    const writer = startLiveWriter({ connect, seed: 4, connections: 2, writesPerSecond: 100 });
    await writer.reached(100);
    await writer.stop();
    expect(performance.now() - began).toBeGreaterThan(900);
  });

  test('tells of its failure instead of falling silent', async () => {
    const writer = startLiveWriter({ connect, seed: 4 });
    await expect(writer.reached(1)).rejects.toMatchObject({ code: '42P01' });
    await expect(writer.stop()).rejects.toMatchObject({ code: '42P01' });
  });
});
