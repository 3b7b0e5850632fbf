import type pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stateKeys, type BackfillRequired, type ControlLog, type ReadyRecord, type SwitchedRecord } from '../../../src/core/state.ts';
import type { Assessment } from '../../../src/ops/cutover/assess.ts';
import { createKafka } from '../../../src/pipeline/kafka/client.ts';
import { openControlLog } from '../../../src/pipeline/kafka/control-log.ts';
import { topicNames } from '../../../src/pipeline/kafka/topics.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { Pipeline } from '../../support/pipeline.ts';
import type { Program } from '../../support/program.ts';
import { isolate } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
const silent = pino({ level: 'silent' });
const MONTH = new Date().toISOString().slice(0, 7);
let db: pg.Client;
let running: Program;
let tenant = '';
let other = '';
let index = '';

interface Answer {
  readonly tenants: (Assessment & { switched: boolean })[];
  readonly allReady: boolean;
  readonly settings: unknown;
}

const cutover = async (code: number, ...args: string[]): Promise<Answer> => JSON.parse(await pipeline.verb(['cutover', ...args, '--json'], code)) as Answer;
const noes = (answer: Answer): string[] => answer.tenants.flatMap(({ findings }) => findings.filter(({ level }) => level === 'fail').map(({ subject }) => subject));
const elastic = async <T>(path: string, init: RequestInit = {}): Promise<T> => (await (await fetch(`${here.elasticsearchUrl}${path}`, { ...init, headers: { 'content-type': 'application/json' } })).json()) as T;
const refreshOf = async (tenantId: string): Promise<Set<string | undefined>> => {
  const answer = await elastic<Record<string, { settings: Record<string, string> }>>(`/${here.indexPrefix}-workflow-*-${tenantId}-*/_settings?flat_settings=true`);
  return new Set(Object.values(answer).map(({ settings }) => settings['index.refresh_interval']));
};

async function withControl<T>(use: (control: ControlLog) => T | Promise<T>): Promise<T> {
  const control = await openControlLog({ kafka: createKafka({ brokers: here.brokers, clientId: 'test' }, silent), topic: topicNames(here.topicPrefix).control, logger: silent });
  try {
    return await use(control);
  } finally {
    await control.close();
  }
}

const recorded = <T>(key: string): Promise<T | undefined> => withControl((control) => control.get<T>(key));

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  const data = await loadDataset(db, { seed: 8, tenants: 2, runs: 24, nodesPerRun: 2, rowSize: 1800, offloadShare: 0.3, months: [MONTH] });
  [tenant, other] = [data.tenants[0]!, data.tenants[1]!];
  index = `${here.indexPrefix}-workflow-app-logs-${tenant}-${MONTH.replace('-', '.')}`;
  await pipeline.verb(['setup']);
  running = await pipeline.start('run');
  await pipeline.verb(['migrate']);
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

const ownTemplates = async (): Promise<string[]> => {
  const { index_templates: found } = await elastic<{ index_templates: { name: string }[] }>(`/_index_template/${here.indexPrefix}-*`);
  return found.map(({ name }) => name).filter((name) => name.includes(tenant) || name.includes(other));
};

describe('cutover', () => {
  it('refuses an id that has neither rows nor documents, before it prepares anything', async () => {
    const mistyped = '3017b959-75bc-4820-83f3-0b69943e00eb';
    const program = pipeline.spawn(['cutover', '--tenant-id', `${tenant},${mistyped}`, '--prepare']);
    expect(await program.ended).toMatchObject({ code: 2 });
    expect(program.stderr.filter((line) => line.includes('no such tenant'))).toEqual([expect.stringContaining(mistyped)]);
    expect(await refreshOf(tenant)).toEqual(new Set(['30s']));
    expect((await elastic<{ index_templates?: unknown[] }>(`/_index_template/${here.indexPrefix}-*-${mistyped}-template`)).index_templates ?? []).toEqual([]);
  });

  it('says no while each save of Dify would wait for a slow refresh, and --prepare cures that for this tenant alone', async () => {
    expect(noes(await cutover(1, '--tenant-id', tenant))).toEqual(['refresh interval']);
    const answer = await cutover(0, '--tenant-id', tenant, '--prepare');
    expect(answer).toMatchObject({ allReady: false, settings: null, tenants: [{ ready: true }] });
    expect(await refreshOf(tenant)).toEqual(new Set(['1s']));
    expect(await refreshOf(other)).toEqual(new Set(['30s']));
    const record = await recorded<ReadyRecord>(stateKeys.ready(tenant));
    expect(record).toMatchObject({ tenantId: tenant, lsn: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/) });
    expect(record!.evidence.map(({ subject }) => subject)).toEqual(['backfill', 'slot', 'lag', 'dead letters', 'validation', 'mapping', 'shards', 'refresh interval']);
    expect(record!.evidence.find(({ subject }) => subject === 'shards')!.message).toMatch(/for the next month of all 2 tenants$/);
  });

  it('sees a template of the tenant that another version has put, and setup and a sink put it anew', async () => {
    const name = `${here.indexPrefix}-cdc-workflow-app-logs-${tenant}-template`;
    interface Template { template: { mappings: { properties: Record<string, unknown> } } }
    // Elasticsearch 9 also says when it was put, and does not take that back.
    const now = async (): Promise<Template> => {
      const { index_templates: [found] } = await elastic<{ index_templates: { index_template: Template }[] }>(`/_index_template/${name}`);
      return Object.fromEntries(Object.entries(found!.index_template).filter(([key]) => !/^(created|modified)_date/.test(key))) as unknown as Template;
    };
    const before = await now();
    const makeOld = async (): Promise<void> => {
      const old = structuredClone(before);
      delete old.template.mappings.properties['created_from'];
      expect(await elastic(`/_index_template/${name}`, { method: 'PUT', body: JSON.stringify(old) })).toEqual({ acknowledged: true });
    };

    await makeOld();
    expect(noes(await cutover(1, '--tenant-id', tenant))).toEqual(['mapping']);
    expect(await pipeline.verb(['check'], 1)).toContain(`${name} differs from the configuration`);
    await pipeline.verb(['setup']);
    expect(await now()).toEqual(before);

    await makeOld();
    const sink = await pipeline.start('sink');
    await sink.stop();
    expect(await now()).toEqual(before);
    await cutover(0, '--tenant-id', tenant);
  });

  it('takes the readiness back when a later look finds a difference', async () => {
    const { rows: [row] } = await db.query<{ id: string }>('SELECT id::text FROM workflow_app_logs WHERE tenant_id = $1 LIMIT 1', [tenant]);
    await elastic(`/${index}/_doc/${row!.id}`, { method: 'PUT', body: '{"created_from":"elsewhere"}' });
    expect(noes(await cutover(1, '--tenant-id', tenant))).toEqual(['validation']);
    expect(await recorded(stateKeys.ready(tenant))).toBeUndefined();
    await pipeline.verb(['cutover', '--tenant-id', tenant, '--confirm', '--quiet', '1'], 1);
    await pipeline.verb(['validate', '--tenant-id', tenant, '--full', '--repair']);
    await pipeline.drained();
    expect((await cutover(0, '--tenant-id', tenant)).tenants[0]!.ready).toBe(true);
  });

  it('prints the settings of Dify once all tenants are ready', async () => {
    const text = await pipeline.verb(['cutover', '--tenant-id', other, '--prepare']);
    expect(text).toMatch(/API_WORKFLOW_RUN_REPOSITORY=.*CORE_WORKFLOW_EXECUTION_REPOSITORY=/s);
    const { tenants } = JSON.parse(await pipeline.verb(['cutover', '--all', '--json'])) as { tenants: { tenantId: string; state: string }[] };
    expect(tenants.map(({ tenantId, state }) => [tenantId, state])).toEqual([tenant, other].sort().map((each) => [each, 'ready']));
  });

  it('that was found ready is not confirmed, and not called ready, when the slot was lost since', async () => {
    const required: BackfillRequired = { table: 'workflow_runs', reason: 'slot-lost', sinceLsn: 'F/0', sinceEpoch: 1, reconcile: true, at: 't' };
    await withControl((control) => control.put(stateKeys.required('workflow_runs'), required));
    try {
      const refused = pipeline.spawn(['cutover', '--tenant-id', tenant, '--confirm', '--quiet', '1']);
      expect(await refused.ended, refused.describe()).toMatchObject({ code: 1 });
      expect(refused.describe()).toMatch(/not ready any more.*slot-lost/);
      expect(await recorded(stateKeys.switched(tenant))).toBeUndefined();
      const { tenants } = JSON.parse(await pipeline.verb(['cutover', '--all', '--json'])) as { tenants: { state: string }[] };
      expect(tenants.map(({ state }) => state)).toEqual(['open', 'open']);
    } finally {
      await withControl((control) => control.remove(stateKeys.required('workflow_runs')));
    }
  });

  it('goes back before its confirmation only when Dify has written nothing to Elasticsearch alone, or by force', async () => {
    const revert = async (code: number, ...more: string[]): Promise<unknown> => JSON.parse(await pipeline.verb(['cutover', '--tenant-id', other, '--revert', '--json', ...more], code));
    const mistyped = '3017b959-75bc-4820-83f3-0b69943e00eb';
    expect(await pipeline.verb(['cutover', '--tenant-id', `${other},${mistyped}`, '--revert', '--json'], 2)).toMatch(new RegExp(`no such tenant: ${mistyped}`));

    const own = `/${index.replace(tenant, other)}/_doc/9f3c6a3e-5c0d-4a58-9d0c-0f3c1f0f5a11?refresh=true`;
    await elastic(own, { method: 'PUT', body: '{"created_from":"web-app"}' });
    expect(await revert(1)).toMatchObject({ tenants: [{ was: 'not-switched', done: false, onlyInElasticsearch: 1, differences: 0 }] });
    expect(await recorded(stateKeys.ready(other))).toBeDefined();
    expect(await revert(0, '--force')).toMatchObject({ tenants: [{ done: true, onlyInElasticsearch: 1 }] });
    expect(await recorded(stateKeys.ready(other))).toBeUndefined();

    await elastic(own, { method: 'DELETE' });
    expect(await revert(0)).toMatchObject({ tenants: [{ was: 'not-switched', verdict: 'equal', done: true, onlyInElasticsearch: 0 }] });
  });

  it('records the switch when PostgreSQL has fallen silent, and the sinks leave the tenant alone from then on', async () => {
    const writer = pipeline.write({ seed: 91, tenantIds: [tenant], writesPerSecond: 30, deletes: 0 });
    await writer.reached(5);
    const confirming = pipeline.spawn(['cutover', '--tenant-id', tenant, '--confirm', '--quiet', '2', '--json']);
    await confirming.said('still being written');
    expect(await recorded(stateKeys.switched(tenant))).toBeUndefined();
    await writer.stop();
    expect(await confirming.ended, confirming.describe()).toMatchObject({ code: 0 });
    expect(await recorded<SwitchedRecord>(stateKeys.switched(tenant))).toMatchObject({ tenantId: tenant });
    const report = await pipeline.oracle();
    expect(report.equal, 'all that was written before is there').toBe(true);

    const { rows: [row] } = await db.query<{ id: string }>(`UPDATE workflow_app_logs SET created_from = 'late' WHERE id = (SELECT id FROM workflow_app_logs WHERE tenant_id = $1 AND created_at < date_trunc('month', now()) + interval '1 month' LIMIT 1) RETURNING id::text`, [tenant]);
    await pipeline.drained();
    const { _source } = await elastic<{ _source: { created_from: string } }>(`/${index}/_doc/${row!.id}`);
    expect(_source.created_from).not.toBe('late');
    await running.said('has its old settings');
  });

  it('keeps the time of the switch when it is confirmed again: late rows are found from there', async () => {
    const switched = await recorded<SwitchedRecord>(stateKeys.switched(tenant));
    const again = JSON.parse(await pipeline.verb(['cutover', '--tenant-id', tenant, '--confirm', '--quiet', '1', '--json'])) as { switched: SwitchedRecord[] };
    expect(again.switched).toEqual([switched]);
    expect(await recorded<SwitchedRecord>(stateKeys.switched(tenant))).toEqual(switched);
  });

  it('goes back only when both ends are equal, which the forced replay from the time of the switch brings about', async () => {
    const refused = JSON.parse(await pipeline.verb(['cutover', '--tenant-id', tenant, '--revert', '--json'], 1)) as { tenants: unknown[] };
    expect(refused.tenants).toMatchObject([{ was: 'switched', done: false, differences: 1 }]);
    const { at } = (await recorded<SwitchedRecord>(stateKeys.switched(tenant)))!;
    await running.stop();
    await pipeline.verb(['replay', '--from-time', at, '--run', '--force']);
    running = await pipeline.start('run');
    await pipeline.verb(['cutover', '--tenant-id', tenant, '--revert']);
    expect(await recorded(stateKeys.switched(tenant))).toBeUndefined();
    await pipeline.verb(['validate', '--tenant-id', tenant, '--full', '--repair']);
    await pipeline.equal();
  });

  it('says what stands still when nobody reads', async () => {
    await running.stop();
    expect(noes(await cutover(1, '--tenant-id', other))).toEqual(expect.arrayContaining(['slot', 'lag', 'validation']));
    await withControl((control) => control.put(stateKeys.switched(other), { tenantId: other, at: 'now', lsn: '0/0' } satisfies SwitchedRecord));
    expect(await pipeline.verb(['cutover', '--tenant-id', other, '--revert'], 1)).toContain('not taken back: rows kept changing, or the path did not drain');
    expect(await recorded(stateKeys.switched(other))).toBeDefined();
  });

  it('leaves no template of a tenant behind a teardown', async () => {
    expect(await ownTemplates()).toHaveLength(8);
    await pipeline.verb(['teardown']);
    expect(await ownTemplates()).toEqual([]);
  });
});
