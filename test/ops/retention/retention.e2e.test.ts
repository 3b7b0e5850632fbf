import type pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createOutput } from '../../../src/cli/output.ts';
import { retention } from '../../../src/cli/retention.ts';
import { loadConfig } from '../../../src/config/config.ts';
import { stateKeys, type RetentionRecord } from '../../../src/core/state.ts';
import { dropExpired, retentionPlan } from '../../../src/ops/retention/retention.ts';
import { openPlatform } from '../../../src/run/platform.ts';
import { loadDataset, monthsUntil } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { Pipeline, until } from '../../support/pipeline.ts';
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

const silent = pino({ level: 'silent' });
const config = loadConfig(here.env);
/** Far older than what the story above holds. */
const DAYS = 1000;
const oldIndex = (table: string, month: string): string => `${here.indexPrefix}-workflow-${table}-${other}-${month}`;
const make = async (index: string): Promise<void> => expect((await fetch(`${here.elasticsearchUrl}/${index}`, { method: 'PUT' })).status).toBe(200);
const there = async (index: string): Promise<boolean> => (await fetch(`${here.elasticsearchUrl}/${index}`, { method: 'HEAD' })).status === 200;

it('records the boundary before the first drop, and drops nothing that was not shown', async () => {
  const [shown, later] = [oldIndex('runs', '2020.02'), oldIndex('app-logs', '2020.01')];
  await make(shown);
  const platform = await openPlatform(config, silent);
  try {
    const { control } = platform.state;
    const options = { client: platform.client, control, prefix: here.indexPrefix, tenantIds: [other], days: DAYS, signal: new AbortController().signal };
    const plan = await retentionPlan(options);
    expect(plan.indices.map(({ name }) => name)).toEqual([shown]);
    await make(later);
    const dropped: string[] = [];
    await dropExpired(options, plan, (name) => {
      expect(control.get<RetentionRecord>(stateKeys.retention(other))).toMatchObject({ throughMonth: '2020.02' });
      dropped.push(name);
    });
    expect(dropped).toEqual([shown]);
    expect([await there(shown), await there(later)]).toEqual([false, true]);
    expect((await retentionPlan(options)).indices.map(({ name }) => name)).toEqual([later]);
  } finally {
    await platform.close();
  }
});

it('--every: each later round shows what it found, records the boundary and drops it', async () => {
  const [first, second] = [oldIndex('app-logs', '2020.01'), oldIndex('runs', '2020.05')];
  const events: string[] = [];
  const out = createOutput(false, (text) => void events.push(text));
  const log = pino({ level: 'info' }, { write: (line: string) => void events.push(line) });
  const stop = new AbortController();
  const at = (text: string): number => events.findIndex((event) => event.includes(text));
  const running = retention.run({ config, out, log, signal: stop.signal }, { tenantIds: [other], days: DAYS, dryRun: false, yes: true, everyMs: 50 });
  try {
    await until('the first round has dropped', async () => at('1 indices dropped') >= 0 && !(await there(first)));
    await until('a round has found nothing', () => at('no index has a whole month') >= 0);
    await make(second);
    await until('a later round has dropped', () => events.some((event) => event.includes('"dropped"') && event.includes(second)));
  } finally {
    stop.abort();
  }
  expect(await running).toBe(0);
  expect(await there(second)).toBe(false);
  expect(events.findIndex((event) => event.includes('documents') && event.includes(second)), 'shown before it goes').toBeLessThan(events.findIndex((event) => event.includes('"dropped"') && event.includes(second)));
  const platform = await openPlatform(config, silent);
  expect(platform.state.control.get<RetentionRecord>(stateKeys.retention(other))).toMatchObject({ throughMonth: '2020.05' });
  await platform.close();
});

it('drops closed indices too, and says that nobody can count what is in them', async () => {
  const closed = oldIndex('node-executions', '2020.03');
  await make(closed);
  expect((await fetch(`${here.elasticsearchUrl}/${closed}/_close`, { method: 'POST' })).status).toBe(200);
  const drop = ['retention', '--tenant-id', other, '--days', String(DAYS)];
  expect(await pipeline.verb([...drop, '--dry-run'])).toMatch(new RegExp(`${closed}.*closed`));
  const answer = JSON.parse(await pipeline.verb([...drop, '--dry-run', '--json'])) as { indices: object[] };
  expect(answer.indices).toContainEqual({ name: closed, documents: null });
  await pipeline.verb([...drop, '--yes']);
  expect(await there(closed)).toBe(false);
});
