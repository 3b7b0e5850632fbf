import { Client } from '@elastic/elasticsearch';
import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Status } from '../../src/ops/status/status.ts';
import { relaxedAlias } from '../../src/pipeline/sink/relaxed.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline, until } from '../support/pipeline.ts';
import { isolate } from '../support/servers.ts';

/*
 * Indices that a backfill fills are made without replicas and refreshes, and get both back whatever dies: the migrate,
 * without another one after it, or the sink, at the worst moments of its own.
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2', ELASTICSEARCH_INDEX_REPLICAS: '1', ELASTICSEARCH_BACKFILL_REFRESH: '-1' });
const client = new Client({ node: here.elasticsearchUrl });
const SLOW = ['migrate', '--workers', '1', '--batch-size', '10', '--rate', '20', '--data-type', 'app_logs'] as const;
let db: pg.Client;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  await db.query(
    `INSERT INTO workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
     SELECT gen_random_uuid(), a.id, a.id, a.id, gen_random_uuid(), 'web-app', 'account', a.id, timestamp '2024-01-01' + g * interval '3 hours'
     FROM generate_series(1, 600) g, (SELECT gen_random_uuid() AS id) a`,
  );
  await pipeline.verb(['setup']);
  await pipeline.start('stream');
});
afterAll(async () => {
  await pipeline.killAll();
  await client.close();
  await db?.end();
});

const relaxed = async (): Promise<string[]> => Object.keys(await client.indices.getAlias({ name: relaxedAlias(here.indexPrefix) }).catch(() => ({})));
async function paces(): Promise<string[]> {
  const all = await client.indices.getSettings({ index: `${here.indexPrefix}-workflow-*`, flat_settings: true });
  return Object.values(all).map(({ settings }) => `${(settings as Record<string, string>)['index.refresh_interval']} ${(settings as Record<string, string>)['index.number_of_replicas']}`);
}
async function dropIndices(): Promise<void> {
  await client.indices.delete({ index: Object.keys(await client.indices.get({ index: `${here.indexPrefix}-workflow-*` })) });
}

it('a migrate that is killed and never run again leaves nothing relaxed behind', async () => {
  const sink = await pipeline.start('sink');
  const migrate = pipeline.spawn(SLOW);
  await until('an index was made relaxed', async () => (await relaxed()).length > 0, 120_000);
  expect(new Set(await paces())).toEqual(new Set(['-1 0']));
  expect(migrate.isRunning(), migrate.describe()).toBe(true);
  const status = JSON.parse(await pipeline.verb(['status', '--json'])) as Status;
  expect(status.elasticsearch).toMatchObject({ value: { relaxed: await relaxed() } });
  expect(await pipeline.verb(['status'])).toContain('relaxed for the backfill');
  await migrate.kill9();
  await until('nothing is relaxed', async () => (await relaxed()).length === 0);
  expect(new Set(await paces())).toEqual(new Set(['30s 1']));
  await pipeline.verb(['migrate', '--data-type', 'app_logs']);
  await pipeline.equal();
  await sink.stop();
});

it('a sink that dies when it has made an index relaxed is made good by the next', async () => {
  await dropIndices();
  const dies = pipeline.spawn(['sink'], { crashAt: { point: 'sink.relaxed-index-made', nth: 2 } });
  const migrate = pipeline.spawn(SLOW);
  expect((await dies.ended).signal, dies.describe()).toBe('SIGKILL');
  expect(dies.witness).toBe('sink.relaxed-index-made');
  expect((await relaxed()).length).toBe(2);
  await migrate.kill9();
  const sink = await pipeline.start('sink');
  await until('nothing is relaxed', async () => (await relaxed()).length === 0);
  await pipeline.verb(['migrate', '--data-type', 'app_logs']);
  await pipeline.equal();
  expect(new Set(await paces())).toEqual(new Set(['30s 1']));
  await sink.stop();
});

it('a sink that dies when it has put settings back and not yet said so is made good by the next', async () => {
  await dropIndices();
  const dies = pipeline.spawn(['sink'], { crashAt: { point: 'sink.relaxed-put-back' } });
  const migrate = pipeline.spawn(SLOW);
  await until('an index was made relaxed', async () => (await relaxed()).length > 0 || !dies.isRunning(), 120_000);
  await migrate.kill9();
  expect((await dies.ended).signal, dies.describe()).toBe('SIGKILL');
  expect(dies.witness).toBe('sink.relaxed-put-back');
  expect((await relaxed()).length).toBeGreaterThan(0);
  const sink = await pipeline.start('sink');
  await until('nothing is relaxed', async () => (await relaxed()).length === 0);
  await pipeline.verb(['migrate', '--data-type', 'app_logs']);
  await pipeline.equal();
  expect(new Set(await paces())).toEqual(new Set(['30s 1']));
  await sink.stop();
});
