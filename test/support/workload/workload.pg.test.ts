import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { columnsOf, createDifySchema, DIFY_TABLES, dropDifySchema } from '../dify/schema.ts';
import { isolate } from '../servers.ts';
import { assertEveryKind, describeCounts, runWorkload, worldOf } from './workload.ts';

const here = isolate(import.meta.filename);
let client: pg.Client;

const connect = async (): Promise<pg.Client> => {
  const one = new pg.Client({ connectionString: here.postgresUrl, application_name: 'workload' });
  await one.connect();
  return one;
};

beforeAll(async () => {
  client = await connect();
});
afterAll(() => client.end());
beforeEach(() => dropDifySchema(client));

const SMALL = { largeRows: 2000, bigRowBytes: 300_000, idleMs: 20, hold: { operations: 20, ms: 300 } };

test('a round does something of every kind and leaves no transaction open', async () => {
  await createDifySchema(client);
  const options = { seed: 21, operations: 900, ddl: true, truncate: true };
  const result = await runWorkload({ connect, ...options, ...SMALL });
  assertEveryKind(result, options);
  expect(result.counts['large-insert']?.rows).toBe(2000);
  expect(describeCounts(result)).toMatch(/^add-column +3 issued, 3 done, 3 rows, 0 conflicts$/m);
  const open = await client.query("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'");
  expect(open.rowCount).toBe(0);
  const extra = [...(await columnsOf(client)).values()].flat().filter((column) => column.startsWith('extra_'));
  expect(extra).toHaveLength(1);
});

test('what was truncated is reported with its ids, and its rows are in the world of the seed', async () => {
  await createDifySchema(client);
  const { truncations, world } = await runWorkload({ connect, seed: 22, operations: 300, truncate: true, ...SMALL });
  expect(truncations).toHaveLength(1);
  expect(world).toEqual(worldOf({ seed: 22 }));
  for (const table of DIFY_TABLES) {
    const strangers = await client.query(`SELECT 1 FROM ${table} WHERE NOT tenant_id = ANY($1)`, [world.tenants]);
    expect(strangers.rowCount).toBe(0);
  }
});

test('an older release without the offload table is written to as well', async () => {
  await createDifySchema(client, { release: '1.4.3' });
  const result = await runWorkload({ connect, seed: 23, operations: 400, ...SMALL });
  expect(Object.values(result.counts).every(({ issued }) => issued > 0)).toBe(true);
  expect((await client.query('SELECT count(*)::int AS n FROM workflow_runs')).rows[0].n).toBeGreaterThan(10);
});

test('lost connections are opened again when the caller kills them, and the round goes on', async () => {
  await createDifySchema(client);
  const result = await runWorkload({
    connect, seed: 24, operations: 400, reconnectMs: 20_000, ...SMALL,
    beforeOperation: async ({ number }) => {
      if (number % 100 === 50) await client.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'workload' AND pid <> pg_backend_pid()");
    },
  });
  const sum = (field: 'issued' | 'lost'): number => Object.values(result.counts).reduce((all, count) => all + count[field], 0);
  expect(sum('issued')).toBe(400);
  expect(sum('lost')).toBeGreaterThan(0);
});

test('a fault of the database ends the round and names the operation and the seed', async () => {
  await createDifySchema(client);
  await client.query('ALTER TABLE workflow_runs ADD CHECK (status <> \'succeeded\')');
  await expect(runWorkload({ connect, seed: 25, operations: 300, ...SMALL })).rejects.toThrow(/operation \d+ \(.*\) of seed 25 failed/);
});

test('a round ends early when it is told to', async () => {
  await createDifySchema(client);
  const stop = new AbortController();
  const result = await runWorkload({ connect, seed: 26, operations: 5000, ...SMALL, signal: stop.signal, beforeOperation: ({ number }) => void (number > 60 && stop.abort()) });
  expect(Object.values(result.counts).reduce((all, { issued }) => all + issued, 0)).toBeLessThan(100);
});
