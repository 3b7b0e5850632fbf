import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadDataset, monthsUntil } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { Pipeline } from '../../support/pipeline.ts';
import { isolate } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
const MONTHS = monthsUntil(new Date().toISOString().slice(0, 7), 4);
/** Of somebody whose prefix begins like ours. */
const FOREIGN = '-runs-x-';
let db: pg.Client;
let tenant = '';
let other = '';

const monthsOf = async (tenantId: string): Promise<string[]> => {
  const lines = (await (await fetch(`${here.elasticsearchUrl}/_cat/indices/${here.indexPrefix}-workflow-*-${tenantId}-*?format=json&h=index`)).json()) as { index: string }[];
  return [...new Set(lines.filter(({ index }) => !index.includes(FOREIGN)).map(({ index }) => index.slice(-7).replace('.', '-')))].sort();
};

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  const data = await loadDataset(db, { seed: 9, tenants: 2, runs: 32, nodesPerRun: 2, rowSize: 1800, months: MONTHS });
  [tenant, other] = [data.tenants[0]!, data.tenants[1]!];
  await pipeline.verb(['setup']);
  await pipeline.start('run');
  await pipeline.verb(['migrate']);
  await pipeline.drained();
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

it('shows what would go, drops it for one tenant only when told so, and a late change does not bring a month back', async () => {
  const foreign = `${here.indexPrefix}-workflow${FOREIGN}${tenant}-${MONTHS[0]!.replace('-', '.')}`;
  await fetch(`${here.elasticsearchUrl}/${foreign}`, { method: 'PUT' });
  // the edge lies in the third month: the first two are older as a whole
  const days = String(Math.floor((Date.now() - Date.parse(`${MONTHS[2]}-01T00:00:00Z`)) / 86_400_000));
  const drop = ['retention', '--tenant-id', tenant, '--days', days];

  expect(await pipeline.verb([...drop, '--dry-run'])).toContain(`${tenant}-${MONTHS[0]!.replace('-', '.')}`);
  // nobody is there to be asked
  await pipeline.verb(drop, 1);
  expect(await monthsOf(tenant)).toEqual(MONTHS);

  await pipeline.verb([...drop, '--yes']);
  expect(await monthsOf(tenant)).toEqual(MONTHS.slice(2));
  expect(await monthsOf(other)).toEqual(MONTHS);
  expect((await fetch(`${here.elasticsearchUrl}/${foreign}`, { method: 'HEAD' })).status).toBe(200);

  await db.query(`UPDATE workflow_runs SET error = 'late' WHERE tenant_id = $1 AND created_at < $2`, [tenant, `${MONTHS[1]}-01`]);
  await pipeline.drained();
  expect(await monthsOf(tenant)).toEqual(MONTHS.slice(2));
  const report = JSON.parse(await pipeline.verb(['validate', '--full', '--json'])) as { verdict: string; apart: { expired: number } };
  expect(report.verdict).toBe('equal');
  expect(report.apart.expired).toBeGreaterThan(0);
});
