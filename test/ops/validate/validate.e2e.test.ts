import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TABLES, type TableName } from '../../../src/core/contracts.ts';
import { DifyEsError } from '../../../src/core/errors.ts';
import type { Difference } from '../../../src/ops/validate/tally.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { insertRows } from '../../support/dify/copy.ts';
import { edgeCaseRows } from '../../support/dify/edge-cases.ts';
import { loadDataset, type DatasetCounts } from '../../support/dify/generator.ts';
import { isolate } from '../../support/servers.ts';
import { Ends } from './fixture.ts';

const here = isolate(import.meta.filename);
let ends: Ends;
let data: DatasetCounts;
const rows: Record<string, number> = {};

const brief = (found: Difference) => ({ class: found.class, table: found.table, id: found.id, ...(found.fields ? { fields: found.fields } : {}) });
const indexName = (table: string, tenant: string, month: string) => `${here.indexPrefix}-${table}-${tenant}-${month}`;

beforeAll(async () => {
  ends = await Ends.open(here);
  await createDifySchema(ends.pg);
  data = await loadDataset(ends.pg, { seed: 5, tenants: 3, runs: 60, months: ['2026-06', '2026-07'], offloadShare: 0.2 });
  const edge = edgeCaseRows({ largest: 1 << 20 });
  for (const table of TABLES) {
    await insertRows(ends.pg, table, edge.rows[table]);
    const { rows: [counted] } = await ends.pg.query<{ count: string }>(`SELECT count(*) FROM ${table}`);
    rows[table] = await ends.index(table);
    // every row of these has a month, so each has a document
    expect(rows[table]).toBe(Number(counted!.count));
    await insertRows(ends.pg, table, edge.deadLetters[table].filter((row) => !/^\d{4}-\d\d-\d\d [\d:.]+$/.test(row['created_at'] ?? '')));
  }
  await ends.elastic.transport.request({ method: 'POST', path: `/${here.indexPrefix}-*/_refresh` });
});

afterAll(() => ends.close());

describe('a full validation', () => {
  it('finds both ends equal, hostile rows and all, and says how many rows and documents it read', async () => {
    const { tally, notDrained } = await ends.validate({});
    expect(tally.differences).toEqual([]);
    const total = Object.values(rows).reduce((a, b) => a + b, 0);
    expect(tally.totals()).toMatchObject({ rows: total, documents: total, missing: 0, stale: 0, extra: 0, 'wrong-index': 0 });
    expect(tally.inFlight).toBe(0);
    expect(tally.apart['no-month']).toBeGreaterThan(0);
    expect(notDrained).toBeNull();
    expect(tally.groups().filter((group) => data.tenants.includes(group.tenantId)).map(({ month }) => month)).toEqual(expect.arrayContaining(['2026.06', '2026.07']));
  });

  it('reads only the rows and documents of the tenants it was asked for', async () => {
    const { tally } = await ends.validate({ tenantIds: [data.tenants[1]!] });
    expect(tally.differences).toEqual([]);
    expect(new Set(tally.groups().map(({ tenantId }) => tenantId))).toEqual(new Set([data.tenants[1]]));
    expect(tally.totals().rows).toBe(tally.totals().documents);
    expect(tally.totals().rows).toBeGreaterThan(50);
  });

  it('reads only the table it was asked for', async () => {
    const { tally, tables } = await ends.validate({ tables: ['workflow_app_logs'] });
    expect(tables).toEqual(['workflow_app_logs']);
    expect(tally.totals().rows).toBe(rows['workflow_app_logs']);
  });
});

/** One difference of each class in each table, and what a validation has to say of them. */
async function plant(): Promise<{ expected: ReturnType<typeof brief>[]; mend: () => Promise<void>; extraIds: Set<string> }> {
  const expected: ReturnType<typeof brief>[] = [];
  const undo: (() => Promise<void>)[] = [];
  const extraIds = new Set<string>();
  const columns: Record<TableName, string> = { workflow_runs: 'workflow-runs', workflow_app_logs: 'workflow-app-logs', workflow_node_executions: 'workflow-node-executions', workflow_node_execution_offload: 'workflow-node-execution-offload' };
  for (const table of TABLES) {
    const { rows: picked } = await ends.pg.query<{ id: string; tenant_id: string; month: string }>(
      `SELECT id::text, tenant_id::text, to_char(created_at, 'YYYY.MM') AS month FROM ${table} WHERE tenant_id = ANY ($1::uuid[]) ORDER BY id LIMIT 4`, [data.tenants],
    );
    const [missing, stale, moved, copied] = picked as [typeof picked[0], typeof picked[0], typeof picked[0], typeof picked[0]];
    const index = (row: { tenant_id: string; month: string }, month = row.month) => indexName(columns[table], row.tenant_id, month);

    await ends.delete(index(missing!), missing!.id).catch(() => undefined);
    expected.push({ class: 'missing', table, id: missing!.id });

    await ends.put(index(stale!), stale!.id, (await text(table, stale!.id)).replace(/("created_at":"[^"]*?)(\.\d+)?"/, '$1.000001"'), await ends.now());
    expected.push({ class: 'stale', table, id: stale!.id, fields: ['created_at'] });

    // the row's only document lies in another month
    await ends.delete(index(moved!), moved!.id);
    await ends.put(index(moved!, '2026.01'), moved!.id, await text(table, moved!.id), await ends.now());
    // and a second copy of another row's
    await ends.put(index(copied!, '2026.01'), copied!.id, await text(table, copied!.id), await ends.now());
    expected.push({ class: 'wrong-index', table, id: moved!.id }, { class: 'wrong-index', table, id: copied!.id });

    const extra = crypto.randomUUID();
    extraIds.add(extra);
    await ends.put(index(copied!), extra, await text(table, copied!.id), await ends.now());
    expected.push({ class: 'extra', table, id: extra });

    undo.push(async () => {
      await ends.delete(index(copied!), extra).catch(() => undefined);
      for (const row of [moved!, copied!]) await ends.delete(index(row, '2026.01'), row.id).catch(() => undefined);
      await ends.index(table, [missing!.id, stale!.id, moved!.id]);
    });
  }
  return { expected, extraIds, mend: async () => { for (const step of undo) await step(); } };
}

async function text(table: TableName, id: string): Promise<string> {
  const { expectedDocuments } = await import('../../../src/ops/validate/expected.ts');
  const open = (await ends.source.open(table))!;
  for await (const [row] of ends.source.rowsOf(open, [id])) return expectedDocuments()(row!.row).toString('utf8');
  throw new Error('no such row');
}

const sorted = (found: readonly ReturnType<typeof brief>[]) => [...found].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

describe('planted differences', () => {
  it('are found, each in its class and nothing else, by a full validation', async () => {
    const { expected, mend } = await plant();
    try {
      const { tally } = await ends.validate({});
      expect(sorted(tally.differences.map(brief))).toEqual(sorted(expected));
      for (const found of tally.differences.filter((each) => each.class === 'wrong-index')) {
        expect(found.index).toMatch(/2026\.01$/);
        expect(found.belongsIn).toMatch(/2026\.0[67]$/);
      }
      expect(tally.differences.filter((found) => found.missingThere)).toHaveLength(TABLES.length);
    } finally {
      await mend();
    }
    expect((await ends.validate({})).tally.differences).toEqual([]);
  });

  it('are found by a sample as large as the tables', async () => {
    const { expected, mend } = await plant();
    try {
      const { tally } = await ends.validate({ sample: 1_000_000 });
      expect(sorted(tally.differences.map(brief))).toEqual(sorted(expected));
    } finally {
      await mend();
    }
  });

  it('are a lost digit of a large integer, a changed key in JSON, a field too many and one microsecond, each by its field', async () => {
    const index = (tenant: string) => indexName('workflow-runs', tenant, '2026.06');
    const { rows: [run] } = await ends.pg.query<{ id: string; tenant_id: string }>(`SELECT id::text, tenant_id::text FROM workflow_runs WHERE tenant_id = $1 AND created_at < '2026-07-01' LIMIT 1`, [data.tenants[0]]);
    await ends.pg.query(`UPDATE workflow_runs SET outputs = '{"n": 9007199254740993, "k": {"a": 1, "b": [1.0]}}', total_tokens = 9007199254740993 WHERE id = $1`, [run!.id]);
    const right = await text('workflow_runs', run!.id);
    const check = async (body: string, fields: string[] | null) => {
      await ends.put(index(run!.tenant_id), run!.id, body, await ends.now());
      const { tally } = await ends.validate({ tables: ['workflow_runs'], tenantIds: [run!.tenant_id] });
      expect(tally.differences.map(brief)).toEqual(fields === null ? [] : [{ class: 'stale', table: 'workflow_runs', id: run!.id, fields }]);
    };
    await check(right, null);
    await check(right.replaceAll('9007199254740993', '9007199254740992'), ['outputs', 'total_tokens']);
    await check(right.replace('{"a": 1, "b": [1.0]}', '{"b":[1],"a":1}'), null); // other key order, 1.0 as 1
    await check(right.replace('"a": 1', '"a": 2'), ['outputs']);
    await check(right.replace(/}$/, ',"unknown":1}'), ['unknown']);
    await check(right.replace(/"graph":\{.*?\},"inputs"/s, '"inputs"'), ['graph']);
    await check(right, null);
  });
});

describe('what differs on purpose', () => {
  const tenant = () => data.tenants[0]!;
  const run = () => indexName('workflow-runs', tenant(), '2026.06');

  it('is told apart: archived, Dify\'s own, kept by a policy, accepted, expired, switched', async () => {
    const [archived, own, extra] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
    await ends.put(run(), archived, `{"id":"${archived}","created_at":"2026-06-01T00:00:00"}`, await ends.now());
    await ends.put(run(), own, `{"id":"${own}","created_at":"2026-06-20T00:00:00"}`, 3n);
    await ends.put(run(), extra, `{"id":"${extra}","created_at":"2026-06-20T00:00:00"}`, await ends.now());
    const { rows: [gone] } = await ends.pg.query<{ id: string }>(`SELECT id::text FROM workflow_runs WHERE tenant_id = $1 AND created_at < '2026-07-01' LIMIT 1`, [tenant()]);
    await ends.delete(run(), gone!.id);
    try {
      const request = { tables: ['workflow_runs'], tenantIds: [tenant()] } as const;
      const boundaries = { archived: new Map([[`${tenant()}/workflow_runs`, '2026-06-10']]), accepted: new Set([`workflow_runs/${gone!.id}`]) };
      const { tally } = await ends.validate(request, { boundaries });
      expect(tally.differences.map(brief)).toEqual([{ class: 'extra', table: 'workflow_runs', id: extra }]);
      expect(tally.apart).toMatchObject({ archived: 1, 'dify-own': 1, accepted: 1 });

      const kept = await ends.validate(request, { boundaries: { ...boundaries, deletePolicy: 'ignore' } });
      expect(kept.tally.differences).toEqual([]);
      expect(kept.tally.apart).toMatchObject({ archived: 1, 'dify-own': 1, 'kept-by-policy': 1 });

      const expired = await ends.validate(request, { boundaries: { ...boundaries, retention: new Map([[tenant(), '2026.06']]) } });
      expect(expired.tally.differences).toEqual([]);
      expect(expired.tally.apart.expired).toBeGreaterThan(5);

      const switched = await ends.validate(request, { boundaries: { switched: new Set([tenant()]) } });
      expect(switched.tally.differences).toEqual([]);
      expect(switched.tally.totals()).toMatchObject({ rows: 0, documents: 0 });
      expect(switched.tally.apart.switched).toBeGreaterThan(5);
    } finally {
      for (const id of [archived, own, extra]) await ends.delete(run(), id);
      await ends.index('workflow_runs', [gone!.id]);
    }
  });
});

describe('rows in flight', () => {
  it('raise no alarm: what arrives before the drain point is reached is equal', async () => {
    const { rows: changed } = await ends.pg.query<{ id: string }>(`UPDATE workflow_app_logs SET created_from = 'changed' WHERE tenant_id = $1 RETURNING id::text`, [data.tenants[2]]);
    const { rows: [gone] } = await ends.pg.query<{ id: string; month: string }>(`DELETE FROM workflow_app_logs WHERE id = (SELECT id FROM workflow_app_logs WHERE tenant_id = $1 LIMIT 1) RETURNING id::text, to_char(created_at, 'YYYY.MM') AS month`, [data.tenants[1]]);
    let drained = 0;
    const { tally } = await ends.validate({ tables: ['workflow_app_logs'] }, {
      drain: async () => {
        const mark = await ends.now();
        await ends.index('workflow_app_logs', changed.map(({ id }) => id));
        await ends.delete(indexName('workflow-app-logs', data.tenants[1]!, gone!.month), gone!.id).catch(() => undefined);
        drained++;
        return mark;
      },
    });
    expect(drained).toBeGreaterThan(0);
    expect(tally.differences).toEqual([]);
    expect(tally.inFlight).toBe(0);
  });

  it('that never come to rest are counted as in flight, not as equal and not as different', async () => {
    const { rows: [row] } = await ends.pg.query<{ id: string }>(`SELECT id::text FROM workflow_app_logs WHERE tenant_id = $1 LIMIT 1`, [data.tenants[2]]);
    let turn = 0;
    const touch = async () => void (await ends.pg.query(`UPDATE workflow_app_logs SET created_from = $2 WHERE id = $1`, [row!.id, `turn ${turn++}`]));
    await touch();
    const { tally } = await ends.validate({ tables: ['workflow_app_logs'] }, { drain: async () => (await touch(), await ends.now()) });
    expect(tally.inFlight).toBe(1);
    expect(tally.differences).toEqual([]);
    await ends.index('workflow_app_logs', [row!.id]);
  });

  it('are listed with a word of caution when the path does not drain', async () => {
    const { rows: [row] } = await ends.pg.query<{ id: string }>(`UPDATE workflow_app_logs SET created_from = 'x' WHERE id = (SELECT id FROM workflow_app_logs WHERE tenant_id = $1 LIMIT 1) RETURNING id::text`, [data.tenants[2]]);
    const { tally, notDrained } = await ends.validate({ tables: ['workflow_app_logs'] }, { drain: () => Promise.reject(new DifyEsError('NOT_DRAINED', 'nobody reads the slot')) });
    expect(tally.differences.map(brief)).toEqual([{ class: 'stale', table: 'workflow_app_logs', id: row!.id, fields: ['created_from'] }]);
    expect(notDrained?.code).toBe('NOT_DRAINED');
    await ends.index('workflow_app_logs', [row!.id]);
  });
});

describe('a sample', () => {
  it('looks at no more rows and documents than it was asked for, and at every tenant', async () => {
    const { tally } = await ends.validate({ sample: 40 });
    const { rows: looked, documents } = tally.totals();
    expect(documents).toBe(40);
    expect(looked).toBeGreaterThanOrEqual(35);
    expect(looked).toBeLessThanOrEqual(40 + TABLES.length * data.tenants.length + TABLES.length);
    for (const tenant of data.tenants) expect(tally.groups().some((group) => group.tenantId === tenant && group.rows > 0)).toBe(true);
    expect(tally.differences).toEqual([]);
  });

  it('looks at other rows each time', async () => {
    const { sampleIds } = await import('../../../src/ops/validate/sample.ts');
    const open = (await ends.source.open('workflow_node_executions'))!;
    const first = await sampleIds(ends.source, open, 50, null);
    const second = await sampleIds(ends.source, open, 50, null);
    expect(new Set(first).size).toBe(50);
    expect(first.filter((id) => second.includes(id)).length).toBeLessThan(45);
  });
});
