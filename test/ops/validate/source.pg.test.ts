import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { estimateRows, oneIdOfEach, sampleIds, tenantsOf } from '../../../src/ops/validate/sample.ts';
import { Source, type OpenTable } from '../../../src/ops/validate/source.ts';
import type { SeenRow } from '../../../src/ops/validate/verdict.ts';
import { pinned, tableRows } from '../../pipeline/backfill/harness.ts';
import { textsOf } from '../../support/cells.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const clients: pg.Client[] = [];
const tenant = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const ROWS = 2500;
let source: Source;
let table: OpenTable;

beforeAll(async () => {
  for (let i = 0; i < 3; i++) clients.push(await pinned(here)());
  source = new Source({ scanning: clients[1]!, lookup: clients[2]! }, 'public');
  await createDifySchema(clients[0]!);
  // tenant 1 has almost all, tenant 2 a few, tenant 3 a single row
  await clients[0]!.query(
    `INSERT INTO workflow_runs (id, tenant_id, app_id, workflow_id, type, triggered_from, version, status, created_by_role, created_by, created_at, graph)
     SELECT gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad((CASE WHEN g = 1 THEN 3 WHEN g <= 40 THEN 2 ELSE 1 END)::text, 12, '0'))::uuid, gen_random_uuid(), gen_random_uuid(),
            'workflow', 'app-run', 'draft', 'succeeded', 'account', gen_random_uuid(), timestamp '2026-08-01' + g * interval '1 second', '{"n": ' || g || '}'
     FROM generate_series(1, ${ROWS}) g`);
  await clients[0]!.query('ANALYZE workflow_runs');
  table = (await source.open('workflow_runs'))!;
});
afterAll(async () => {
  for (const client of clients) await client.end();
});

async function collect(batches: AsyncIterable<{ rows: SeenRow[] }>): Promise<SeenRow[]> {
  const all: SeenRow[] = [];
  for await (const { rows } of batches) all.push(...rows);
  return all;
}

const byId = (rows: readonly SeenRow[]) => new Map(rows.map(({ key, row }) => [key.id, textsOf(row)]));

describe('the source as validation reads it', () => {
  it('gives every row once, each column as PostgreSQL prints it, with key and xmin', async () => {
    const rows = await collect(source.scan(table, null));
    expect(rows).toHaveLength(ROWS);
    expect(byId(rows)).toEqual(await tableRows(clients[0]!, 'workflow_runs'));
    const { rows: [one] } = await clients[0]!.query<{ xmin: string }>('SELECT xmin::text FROM workflow_runs LIMIT 1');
    expect(new Set(rows.map(({ xmin }) => xmin))).toEqual(new Set([one!.xmin]));
  });

  it('gives the rows of a condition in physical order and by key alike, over several statements', async () => {
    for (const n of [1, 2, 3, 4]) {
      const condition = `tenant_id = '${tenant(n)}'`;
      const expected = await tableRows(clients[0]!, 'workflow_runs', condition);
      expect(byId(await collect(source.scan(table, condition)))).toEqual(expected);
      expect(byId(await collect(source.scanByKey(table, condition)))).toEqual(expected);
    }
  });

  it('gives rows, keys and places by id, those that are gone not at all', async () => {
    const ids = [...(await tableRows(clients[0]!, 'workflow_runs', 'true LIMIT 1500')).keys()];
    const gone = crypto.randomUUID();
    const found: SeenRow[] = [];
    for await (const rows of source.rowsOf(table, [...ids, gone])) found.push(...rows);
    expect(new Set(found.map(({ key }) => key.id))).toEqual(new Set(ids));
    expect(new Set((await source.keysOf(table, [...ids, gone])).keys())).toEqual(new Set(ids));
    expect((await source.placesOf(table, [gone, ids[0]!])).get(ids[0]!)).toEqual(found.find(({ key }) => key.id === ids[0])!.key);
  });

  it('reads rows of several MB a few at a time, and looks others up meanwhile', async () => {
    await clients[0]!.query(`CREATE TABLE wide AS SELECT * FROM workflow_runs LIMIT 12; UPDATE wide SET graph = repeat('x', 4 << 20); ALTER TABLE workflow_runs RENAME TO narrow; ALTER TABLE wide RENAME TO workflow_runs`);
    try {
      const wide = (await source.open('workflow_runs'))!;
      const sizes: number[] = [];
      for await (const { rows } of source.scan(wide, null)) {
        sizes.push(rows.length);
        expect((await source.keysOf(wide, rows.map(({ key }) => key.id))).size).toBe(rows.length);
      }
      expect(sizes.reduce((a, b) => a + b, 0)).toBe(12);
      expect(Math.max(...sizes)).toBeLessThanOrEqual(4);
      expect(await source.hasChanged(table)).toBe(true);
      expect(await source.hasChanged(wide)).toBe(false);

      // a reader that stops in the middle leaves a connection that can be used
      for await (const { rows } of source.scan(wide, null)) if (rows.length > 0) break;
      expect(await collect(source.scan(wide, null))).toHaveLength(12);
    } finally {
      await clients[0]!.query('DROP TABLE workflow_runs; ALTER TABLE narrow RENAME TO workflow_runs');
    }
  });

  it('says PG_UNREACHABLE when the connection is lost in the middle', async () => {
    const own = [await pinned(here)(), await pinned(here)()] as const;
    const broken = new Source({ scanning: own[0], lookup: own[1] }, 'public');
    const pid = (await own[0].query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid;
    await clients[0]!.query('SELECT pg_terminate_backend($1)', [pid]);
    await expect(collect(broken.scan(table, null))).rejects.toMatchObject({ code: 'PG_UNREACHABLE' });
    await Promise.allSettled(own.map((client) => client.end()));
  });
});

describe('a sample of the source', () => {
  it('has as many rows as asked for, all different, or all that there are', async () => {
    for (const count of [1, 100, ROWS - 1, ROWS, 10 * ROWS]) {
      const ids = await sampleIds(source, table, count, null);
      expect(new Set(ids).size).toBe(Math.min(count, ROWS));
      expect(ids).toHaveLength(Math.min(count, ROWS));
    }
  });

  it('gives rows of every part of the table the same chance', async () => {
    const places = await tableRows(clients[0]!, 'workflow_runs');
    const hits = [0, 0, 0, 0, 0];
    for (let i = 0; i < 20; i++) for (const id of await sampleIds(source, table, 100, null)) {
      const n = (JSON.parse(places.get(id)!['graph']!) as { n: number }).n;
      hits[Math.floor((5 * (n - 1)) / ROWS)]!++;
    }
    // 2,000 draws, 400 in each fifth, standard deviation below 20 were they independent
    for (const hit of hits) expect(hit).toBeGreaterThan(250);
  });

  it('of a tenant holds rows of that tenant alone', async () => {
    expect(await estimateRows(source, table, `tenant_id = '${tenant(2)}'`)).toBe(39);
    const ids = await sampleIds(source, table, 20, `tenant_id = '${tenant(2)}'`);
    expect(ids).toHaveLength(20);
    for (const place of (await source.placesOf(table, ids)).values()) expect(place.tenantId).toBe(tenant(2));
  });

  it('knows every tenant and a row of each', async () => {
    expect(await tenantsOf(source, table)).toEqual([tenant(1), tenant(2), tenant(3)]);
    const ids = await oneIdOfEach(source, table, [tenant(3), tenant(2), tenant(9)]);
    expect([...(await source.placesOf(table, ids)).values()].map(({ tenantId }) => tenantId).sort()).toEqual([tenant(2), tenant(3)]);
  });
});
