import type pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadConfig } from '../../../src/config/config.ts';
import { TABLES, type TableName } from '../../../src/core/contracts.ts';
import type { Estimate } from '../../../src/ops/estimate/estimate.ts';
import { topicNames, withAdmin } from '../../../src/pipeline/kafka/topics.ts';
import { openKafka } from '../../../src/run/connections.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { Pipeline } from '../../support/pipeline.ts';
import { isolate } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
const config = loadConfig(pipeline.env);
const kafka = openKafka(config, pino({ level: 'silent' }));
const MONTHS = ['2025-01', '2025-02', '2025-03'];
const FEBRUARY = ['--start-date', '2025-02-01', '--end-date', '2025-02-28'];
let db: pg.Client;
let tenant = '';

interface Counted {
  readonly table: TableName;
  readonly tenantId: string;
  readonly month: string;
  readonly rows: number;
  readonly bytes: number;
}

const estimate = async (...more: string[]): Promise<Estimate> => JSON.parse(await pipeline.verb(['migrate', '--dry-run', '--json', ...more])) as Estimate;
const sorted = (groups: readonly Counted[]): Counted[] => [...groups].sort((a, b) => ((a.table + a.tenantId + a.month) < (b.table + b.tenantId + b.month) ? -1 : 1));

/** By a statement of the test's own. */
async function counted(table: TableName, condition: string): Promise<Counted[]> {
  const { rows: columns } = await db.query<{ name: string }>(`SELECT quote_ident(attname) AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`, [table]);
  const bytes = columns.map(({ name }) => `coalesce(octet_length(${name}::text), 0)`).join(' + ');
  const { rows } = await db.query<Omit<Counted, 'table'>>(
    `SELECT tenant_id::text AS "tenantId", CASE WHEN isfinite(created_at) THEN to_char(created_at, 'YYYY.MM') ELSE '-' END AS month, count(*)::int AS rows, sum(${bytes})::int AS bytes
       FROM ${table} WHERE ${condition} GROUP BY 1, 2`);
  return rows.map((row) => ({ table, ...row }));
}

/** Everything that a writer would leave behind on one of the three servers. */
async function traces(): Promise<unknown> {
  const of = async (sql: string): Promise<unknown[]> => (await db.query<Record<string, unknown>>(sql)).rows;
  // What was written before counts only once it is refreshed.
  await fetch(`${here.elasticsearchUrl}/${here.indexPrefix}-*/_refresh`, { method: 'POST' });
  const elastic = async (path: string): Promise<unknown> => (await fetch(`${here.elasticsearchUrl}${path}`)).json();
  return {
    relations: await of(`SELECT oid::text, relname, relfilenode::text, relreplident FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1`),
    rows: await of(TABLES.map((table) => `SELECT '${table}' AS table, count(*), sum(hashtext(id::text || xmin::text)::bigint) FROM ${table}`).join(' UNION ALL ')),
    slots: await of(`SELECT slot_name, confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = current_database()`),
    publications: await of('SELECT pubname FROM pg_publication'),
    topics: await withAdmin(kafka, 'look', async (admin) => {
      const ours = (await admin.listTopics()).filter((topic) => topic.startsWith(here.topicPrefix)).sort();
      return Promise.all(ours.map(async (topic) => [topic, await admin.fetchTopicOffsets(topic)]));
    }),
    indices: await elastic(`/_cat/indices/${here.indexPrefix}-*?format=json&h=index,uuid,docs.count&s=index`),
    templates: await elastic(`/_index_template/${here.indexPrefix}-*`),
  };
}

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  const data = await loadDataset(db, { seed: 12, tenants: 3, runs: 45, nodesPerRun: 3, rowSize: 2500, offloadShare: 0.3, months: MONTHS });
  tenant = data.tenants[1]!;
  await db.query("UPDATE workflow_app_logs SET created_at = 'infinity' WHERE id = (SELECT min(id::text)::uuid FROM workflow_app_logs)");
  await db.query("UPDATE workflow_runs SET outputs = '{\"a\": NaN}' WHERE id IN (SELECT id FROM workflow_runs ORDER BY id LIMIT 2)");
  // dead rows and free space: pages hold more than what counts
  await db.query("DELETE FROM workflow_node_executions WHERE id IN (SELECT id FROM workflow_node_executions ORDER BY id LIMIT 7); UPDATE workflow_runs SET error = 'again'");
  await pipeline.verb(['setup']);
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

it('counts rows and bytes exactly by table, tenant and month, and writes nothing anywhere', async () => {
  const before = await traces();
  expect(before).toMatchObject({ topics: topicNames(config.kafka.topicPrefix).all.toSorted().map((topic) => [topic, expect.anything()]) });
  const found = await estimate();
  expect(await traces()).toEqual(before);

  const expected = sorted((await Promise.all(TABLES.map((table) => counted(table, 'true')))).flat());
  expect(sorted(found.groups)).toEqual(expected);
  expect(new Set(expected.map(({ month }) => month))).toEqual(new Set([...MONTHS.map((month) => month.replace('-', '.')), '-']));
  for (const { table, rows, bytes, sampled, refused, invalidJson } of found.forecast.tables) {
    const groups = expected.filter((group) => group.table === table);
    const sum = (pick: (group: Counted) => number): number => groups.reduce((total, group) => total + pick(group), 0);
    // fewer than are sampled, so that what is scaled up is exact too
    expect({ table, rows, bytes, sampled, refused, invalidJson }).toEqual({
      table, rows: sum((group) => group.rows), bytes: sum((group) => group.bytes), sampled: sum((group) => group.rows),
      refused: table === 'workflow_app_logs' ? 1 : 0, invalidJson: table === 'workflow_runs' ? 2 : 0,
    });
  }
  expect(found.forecast.newIndices).toBe(expected.filter(({ month }) => month !== '-').length);
});

it('counts what a filter selects and nothing else', async () => {
  const found = await estimate('--tenant-id', tenant, ...FEBRUARY, '--data-type', 'workflow_runs,node_executions');
  const condition = `tenant_id = '${tenant}' AND created_at >= '2025-02-01' AND created_at < '2025-03-01'`;
  const expected = sorted([...(await counted('workflow_runs', condition)), ...(await counted('workflow_node_executions', condition))]);
  expect(expected).toHaveLength(2);
  expect(sorted(found.groups)).toEqual(expected);
});
