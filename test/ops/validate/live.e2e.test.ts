import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pino } from 'pino';
import { run } from '../../../scripts/local/run.ts';
import { stateKeys, type ArchivedRecord, type BackfillRequired } from '../../../src/core/state.ts';
import type { ValidationReport } from '../../../src/ops/validate/report.ts';
import type { Status } from '../../../src/ops/status/status.ts';
import { connect } from '../../../src/pipeline/capture/pg-connection.ts';
import { openControlLog } from '../../../src/pipeline/kafka/control-log.ts';
import { createKafka } from '../../../src/pipeline/kafka/client.ts';
import { topicNames } from '../../../src/pipeline/kafka/topics.ts';
import { loadDataset, type DatasetCounts } from '../../support/dify/generator.ts';
import { startLiveWriter, type LiveWriter } from '../../support/dify/live-writer.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';
import { Ends } from './fixture.ts';

/** The program itself, under the traffic of a live Dify. */
const here = isolate(import.meta.filename);
const program = resolve(import.meta.dirname, '../../../bin/dify-es');
const silent = pino({ level: 'silent' });
let env: Record<string, string>;
let ends: Ends;
let data: DatasetCounts;
let pipeline: ChildProcess | undefined;
let writer: LiveWriter | undefined;

async function verb<T>(...args: string[]): Promise<{ code: number | null; answer: T; stderr: string }> {
  const { status, stdout, stderr } = await run(program, [...args, '--json'], { env });
  return { code: status, answer: JSON.parse(stdout || 'null') as T, stderr };
}

const validate = (...args: string[]) => verb<ValidationReport>('validate', ...args);
const startPipeline = (): void => void (pipeline = spawn(program, ['run'], { env, stdio: 'ignore' }));

async function withControl<T>(use: (control: Awaited<ReturnType<typeof openControlLog>>) => Promise<T>): Promise<T> {
  const kafka = createKafka({ brokers: here.brokers, clientId: 'test' }, silent);
  const control = await openControlLog({ kafka, topic: topicNames(here.topicPrefix).control, logger: silent });
  try {
    return await use(control);
  } finally {
    await control.close();
  }
}

beforeAll(async () => {
  env = { PATH: process.env['PATH'] ?? '', ...here.env };
  ends = await Ends.open(here);
  await createDifySchema(ends.pg);
  data = await loadDataset(ends.pg, { seed: 11, tenants: 2, runs: 80, months: ['2026-06', '2026-07'], offloadShare: 0.2 });
  expect((await run(program, ['setup'], { env })).status).toBe(0);
  startPipeline();
  const migrated = await run(program, ['migrate'], { env });
  expect(migrated.status, migrated.stderr).toBe(0);
});

afterAll(async () => {
  await writer?.stop().catch(() => undefined);
  pipeline?.kill('SIGKILL');
  await ends?.close();
});

const monthOf = (text: string) => text.slice(0, 7).replace('-', '.');
const runs = (tenant: string, month: string) => `${here.indexPrefix}-workflow-runs-${tenant}-${month}`;
const brief = (report: ValidationReport) => report.differences.map(({ class: kind, id }) => `${kind} ${id}`).sort();

describe('validate beside a live Dify', () => {
  it('raises no false alarm, again and again, in full and by sample', async () => {
    const { DB_HOST, DB_PORT, DB_USERNAME, DB_PASSWORD, DB_DATABASE } = here.env;
    const target = { host: DB_HOST!, port: Number(DB_PORT), user: DB_USERNAME!, password: DB_PASSWORD!, database: DB_DATABASE! };
    writer = startLiveWriter({ connect: () => connect(target, { role: 'writer' }), seed: 12, connections: 2, writesPerSecond: 30, tenantIds: data.tenants, deletes: 0.2 });
    await writer.reached(30);
    for (let round = 0; round < 2; round++) {
      const before = writer.counts().transactions;
      const { code, answer, stderr } = await validate('--full');
      expect(writer.counts().transactions).toBeGreaterThan(before);
      expect(answer, stderr).toMatchObject({ verdict: 'equal', differences: [], inFlight: 0, notDrained: null });
      expect(code).toBe(0);
    }
    const sampled = await validate();
    expect(sampled.answer).toMatchObject({ verdict: 'equal', sample: 1000 });
  });

  it('finds exactly what was planted, repairs what is missing and stale, and deletes surplus only when told to', async () => {
    const tenant = data.tenants[0]!;
    const { rows: picked } = await ends.pg.query<{ id: string; created_at: string }>(
      `SELECT id::text, created_at::text FROM workflow_runs WHERE tenant_id = $1 AND created_at < '2026-07-01' ORDER BY id LIMIT 3`, [tenant]);
    const [missing, stale, moved] = picked as [typeof picked[0] & {}, typeof picked[0] & {}, typeof picked[0] & {}];
    const index = runs(tenant, monthOf(missing.created_at));
    const source = async (id: string) => JSON.stringify((await ends.elastic.transport.request<{ _source: object }>({ method: 'GET', path: `/${index}/_doc/${id}` }))._source);
    const [extra, own, archived] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
    const text = await source(missing.id);
    await ends.delete(index, missing.id);
    await ends.put(index, stale.id, (await source(stale.id)).replace(/"status":"[^"]*"/, '"status":"wrong"'), await ends.now());
    await ends.put(runs(tenant, '2026.01'), moved.id, await source(moved.id), await ends.now());
    await ends.delete(index, moved.id);
    await ends.put(index, extra, text, await ends.now());
    await ends.put(index, own, text, 7n);
    await ends.put(runs(tenant, '2025.01'), archived, '{"created_at":"2025-01-05T00:00:00"}', await ends.now());
    await withControl((control) => control.put(stateKeys.archived(tenant, 'workflow_runs'), { tenantId: tenant, table: 'workflow_runs', before: '2025-02-01', at: 'now' } satisfies ArchivedRecord));

    const found = await validate('--full');
    expect(brief(found.answer)).toEqual([`extra ${extra}`, `missing ${missing.id}`, `stale ${stale.id}`, `wrong-index ${moved.id}`].sort());
    expect(found.answer).toMatchObject({ verdict: 'different', apart: { 'dify-own': 1, archived: 1 } });
    expect(found.answer.differences.find((each) => each.class === 'stale')?.fields).toEqual(['status']);
    expect(found.code).toBe(1);
    expect(JSON.stringify(found.answer)).not.toContain('"wrong"');

    const repaired = await validate('--full', '--repair');
    expect(brief(repaired.answer)).toEqual([`extra ${extra}`, `wrong-index ${moved.id}`].sort());
    expect(repaired.answer.repair).toMatchObject({ rowsPublished: 3, tombstonesPublished: 0, leftAlone: 2 });
    expect(repaired.answer.differences.find((each) => each.class === 'wrong-index')).toMatchObject({ missingThere: false });

    const deleted = await validate('--full', '--repair', '--delete-extra');
    expect(deleted.answer, deleted.stderr).toMatchObject({ verdict: 'equal', differences: [], repair: { rowsPublished: 0, tombstonesPublished: 2 } });
    expect(deleted.code).toBe(0);
    expect(await ends.documents.mget([{ index, id: own }, { index: runs(tenant, '2025.01'), id: archived }, { index, id: extra }])).toEqual([expect.anything(), expect.anything(), null]);
    await ends.delete(index, own);
  });

  it('settles a BACKFILL REQUIRED that only waits for a look at surplus documents', async () => {
    const required: BackfillRequired = { table: 'workflow_app_logs', reason: 'new-epoch', sinceLsn: '0/1', sinceEpoch: 1, reconcile: true, backfilledBy: 'x', at: 'then' };
    await withControl((control) => control.put(stateKeys.required('workflow_app_logs'), required));
    expect((await validate('--full', '--tenant-id', data.tenants[0]!)).answer.reconciled).toEqual([]);
    const { answer } = await validate('--full');
    expect(answer.reconciled).toEqual(['workflow_app_logs']);
    await withControl(async (control) => expect(control.get(stateKeys.required('workflow_app_logs'))).toBeUndefined());
  });
});

describe('status beside a live Dify', () => {
  it('reads every part', async () => {
    const { code, answer } = await verb<Status>('status');
    expect(code).toBe(0);
    expect(answer).toMatchObject({
      source: { ok: true, value: { slot: { active: true, lagBytes: expect.any(Number) }, wal: { level: 'unlimited', retainedBytes: expect.any(Number) } } },
      kafka: { ok: true, value: { brokers: 1 } },
      group: { ok: true, value: { state: 'Stable', members: 1 } },
      state: { ok: true, value: { epoch: { epoch: 1 }, required: [], runs: [{ state: 'done' }], archived: [{ before: '2025-02-01' }] } },
      letters: { ok: true, value: { open: 0 } },
      elasticsearch: { ok: true, value: { health: 'green' } },
    });
    const runsTable = answer.state.ok ? answer.state.value.runs[0]!.tables.find(({ table }) => table === 'workflow_runs') : undefined;
    expect(runsTable).toMatchObject({ share: 1 });
    expect(runsTable!.rows).toBeGreaterThanOrEqual(80);
  });

  it('narrows the indices to a tenant', async () => {
    const { answer } = await verb<Status>('status', '--tenant-id', data.tenants[1]!);
    const tenants = answer.elasticsearch.ok ? new Set(answer.elasticsearch.value.indices.map(({ tenantId }) => tenantId)) : new Set();
    expect(tenants).toEqual(new Set([data.tenants[1]]));
  });

  it('shows the others when a server is away, and ends with 3', async () => {
    for (const [away, parts] of [[{ DB_PORT: '1' }, ['source']], [{ KAFKA_BROKERS: '127.0.0.1:1' }, ['kafka', 'group', 'state', 'letters']], [{ ELASTICSEARCH_HOSTS: '["http://127.0.0.1:1"]' }, ['elasticsearch']]] as const) {
      const { status, stdout } = await run(program, ['status', '--json'], { env: { ...env, ...away } });
      const answer = JSON.parse(stdout) as Record<string, { ok: boolean; message?: string }>;
      expect(Object.keys(answer).filter((part) => !answer[part]!.ok)).toEqual(parts);
      expect(status).toBe(3);
    }
  });
});

describe('validate while the pipeline stands still', () => {
  it('proves nothing by both ends being equal, since a change may be on its way, and settles no BACKFILL REQUIRED', async () => {
    await writer!.stop();
    writer = undefined;
    expect((await validate('--full')).code).toBe(0);
    const required: BackfillRequired = { table: 'workflow_runs', reason: 'slot-lost', sinceLsn: '0/1', sinceEpoch: 1, reconcile: true, backfilledBy: 'x', at: 'then' };
    await withControl((control) => control.put(stateKeys.required('workflow_runs'), required));
    pipeline!.kill('SIGTERM');
    await once(pipeline!, 'exit');
    const { code, answer } = await validate('--full');
    expect(answer).toMatchObject({ verdict: 'unsettled', differences: [], inFlight: 0, notDrained: { code: 'NOT_DRAINED' }, reconciled: [] });
    expect(code).toBe(1);
    await withControl(async (control) => expect(control.get(stateKeys.required('workflow_runs'))).toEqual(required));
    startPipeline();
    await expect.poll(async () => (await validate('--full')).answer, { timeout: 60_000, interval: 1000 }).toMatchObject({ verdict: 'equal', reconciled: ['workflow_runs'] });
  });

  it('says so and lists what it sees, with exit code 1', async () => {
    pipeline!.kill('SIGTERM');
    await once(pipeline!, 'exit');
    const { rows: [row] } = await ends.pg.query<{ id: string }>(`UPDATE workflow_app_logs SET created_from = 'later' WHERE id = (SELECT id FROM workflow_app_logs LIMIT 1) RETURNING id::text`);
    const { code, answer } = await validate('--full');
    expect(code).toBe(1);
    expect(brief(answer)).toEqual([`stale ${row!.id}`]);
    expect(answer.notDrained).toMatchObject({ code: 'NOT_DRAINED' });
    startPipeline();
    await expect.poll(async () => (await validate('--full')).code, { timeout: 60_000, interval: 1000 }).toBe(0);
  });

  it('ends within ten seconds of SIGTERM', async () => {
    pipeline!.kill('SIGTERM');
    await once(pipeline!, 'exit');
    await ends.pg.query(`UPDATE workflow_app_logs SET created_from = 'later still' WHERE id = (SELECT id FROM workflow_app_logs LIMIT 1)`);
    const child = spawn(program, ['validate', '--full'], { env: { ...env, LOG_LEVEL: 'debug' }, stdio: ['ignore', 'ignore', 'pipe'] });
    // it has connected and compares, or waits for the drain point
    await once(child.stderr, 'data');
    const began = performance.now();
    child.kill('SIGTERM');
    expect((await once(child, 'exit'))[0]).toBe(1);
    expect(performance.now() - began).toBeLessThan(9_000);
  });
});
