import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { freePort } from '../../support/free-port.ts';
import { Pipeline, until } from '../../support/pipeline.ts';
import { isolate } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2', WAL_BUDGET: '2GB' });
let db: pg.Client;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  await loadDataset(db, { seed: 17, tenants: 1, runs: 10, nodesPerRun: 2, months: ['2025-10'] });
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

it('serves what really happens: ready, rows on their way, WAL, lag, dead letters and what is required', async () => {
  await pipeline.verb(['setup']);
  const port = await freePort();
  const run = await pipeline.start('run', { env: { METRICS_PORT: String(port) } });
  const get = async (path: string): Promise<{ status: number; body: string }> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: response.status, body: await response.text() };
  };
  const series = async (): Promise<Map<string, number>> =>
    new Map((await get('/metrics')).body.split('\n').filter((line) => line !== '' && !line.startsWith('#')).map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));

  await until('every part is ready', async () => (await get('/readyz')).status === 200);
  expect((await series()).get('dify_es_backfill_required{table="workflow_runs"}')).toBe(1);
  expect((await get('/healthz')).status).toBe(200);

  await pipeline.verb(['migrate']);
  await db.query("UPDATE workflow_runs SET status = 'partial-succeeded'");
  await db.query("UPDATE workflow_app_logs SET created_at = 'infinity' WHERE id = (SELECT id FROM workflow_app_logs LIMIT 1)");
  await pipeline.drained();
  await until('the sink and the reader have told of it', async () => {
    const now = await series();
    return (now.get('dify_es_sink_records_total{table="workflow_runs",outcome="applied"}') ?? 0) >= 10 && (now.get('dify_es_stream_made_records_total{table="workflow_runs",op="update"}') ?? 0) >= 10;
  });
  const now = await series();
  expect(now.get('dify_es_backfill_required{table="workflow_runs"}')).toBe(0);
  expect(now.get('dify_es_slot_retained_limit_bytes')).toBe(2 * 1024 ** 3);
  expect(now.get('dify_es_slot_retained_bytes')).toBeGreaterThanOrEqual(0);
  expect(now.get('dify_es_source_identity_index_broken{table="workflow_runs"}')).toBe(0);
  expect(now.get('dify_es_stream_confirmed_lsn_bytes')).toBeGreaterThan(0);
  expect(now.get('dify_es_ready{part="stream"}')).toBe(1);

  await until('the lag is counted', async () => (await series()).has('dify_es_consumer_lag_records{table="workflow_runs"}'));
  // the next look at the topic is up to a minute away
  await until('the dead letter is counted', async () => (await series()).get('dify_es_dead_letters{table="workflow_app_logs",cause="no-month",state="open"}') === 1, 120_000);
  await run.stop();
  await expect(get('/healthz')).rejects.toThrow();
});
