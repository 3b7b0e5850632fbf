import type pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadConfig, readEnvironment } from '../../src/config/config.ts';
import type { ValidationReport } from '../../src/ops/validate/report.ts';
import { openGroupLag } from '../../src/pipeline/kafka/group-lag.ts';
import { topicNames } from '../../src/pipeline/kafka/topics.ts';
import { openKafka } from '../../src/run/connections.ts';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { lyingElasticsearch } from '../support/faults/lying-elasticsearch.ts';
import { Pipeline, until } from '../support/pipeline.ts';
import type { Program } from '../support/program.ts';
import { isolate } from '../support/servers.ts';

/* A TRUNCATE under both policies, at bad moments; the workload of the oracle has them at any moment. */
const here = isolate(import.meta.filename);
const TABLE = 'workflow_app_logs';
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2', TRUNCATE_POLICY: 'apply' });
let db: pg.Client;
let stream: Program;
let sink: Program;

const MORE_LOGS = `INSERT INTO ${TABLE} (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
  SELECT gen_random_uuid(), tenant_id, app_id, workflow_id, id, 'web-app', 'account', created_by, created_at FROM workflow_runs`;

const documents = async (): Promise<number> => ((await (await fetch(`${here.elasticsearchUrl}/${here.indexPrefix}-workflow-app-logs-*/_count`)).json()) as { count: number }).count;
const terminateReader = (): Promise<unknown> => db.query('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL', [here.slot]);

/** Markers of aborted transactions count too: nothing at all was written between two equal answers. */
async function endsOfTable(): Promise<string> {
  const config = loadConfig(readEnvironment(pipeline.env));
  const lag = await openGroupLag(openKafka(config, pino({ level: 'silent' })), topicNames(config.kafka.topicPrefix), config.kafka.group, [TABLE]);
  try {
    return [...(await lag.endOffsets())].map(String).sort().join(' ');
  } finally {
    await lag.close();
  }
}

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  await loadDataset(db, { seed: 61, tenants: 1, runs: 30, nodesPerRun: 1, rowSize: 1800, months: ['2026-08', '2026-09'] });
  await pipeline.verb(['setup']);
  [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
  await pipeline.verb(['migrate']);
  await pipeline.equal();
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

it('a reader that was stopped while it applied one writes no tombstone behind the rows that another has published since', async () => {
  await sink.stop();
  await db.query(MORE_LOGS);
  await db.query(`TRUNCATE ${TABLE}`);
  const zombie = stream;
  await zombie.said('waiting for the sinks to come to the TRUNCATE');
  zombie.pause();
  stream = pipeline.spawn(['stream']);
  await stream.said('PG_SLOT_BUSY');
  await terminateReader();
  await stream.said('waiting for the sinks to come to the TRUNCATE');
  sink = await pipeline.start('sink');
  await stream.said('the truncation was applied');
  await db.query(MORE_LOGS);
  await pipeline.equal();
  // An older tombstone would be refused by Elasticsearch, but compaction would keep it in place of the row.
  const before = await endsOfTable();
  zombie.resume();
  await Promise.race([zombie.ended, until('the zombie has noticed', () => zombie.hasSaid('waiting to read on'))]);
  await zombie.kill9();
  expect(zombie.hasSaid('the truncation was applied')).toBe(false);
  expect(await endsOfTable()).toBe(before);
  await pipeline.equal();
});

// Of two months, so of two indices: between the tombstones of the one and of the other, behind both, and behind the record of it.
it.each([['stream.truncate-published', 1], ['stream.truncate-published', 2], ['stream.truncate-recorded', 1]] as const)('a reader that dies at %s, number %i, applies it from the beginning and takes no row that came after it', async (point, nth) => {
  await pipeline.drained();
  await stream.stop();
  await db.query(`TRUNCATE ${TABLE}`);
  await db.query(MORE_LOGS);
  const dies = pipeline.spawn(['stream'], { crashAt: { point, nth } });
  expect([(await dies.ended).signal, dies.witness], dies.describe()).toEqual(['SIGKILL', point]);
  stream = await pipeline.start('stream');
  await stream.said('the truncation was applied');
  await pipeline.equal();
});

it('an Elasticsearch that is away while one is applied is waited for', async () => {
  const proxy = await lyingElasticsearch(here.elasticsearchUrl);
  try {
    await stream.stop();
    stream = await pipeline.start('stream', { env: { ELASTICSEARCH_HOSTS: JSON.stringify([proxy.url]) } });
    await db.query(MORE_LOGS);
    await pipeline.drained();
    proxy.lie(() => ({ kind: 'cut' }));
    await db.query(`TRUNCATE ${TABLE}`);
    await stream.said('ES_UNREACHABLE');
    expect(proxy.told).toBeGreaterThan(0);
    proxy.lie(undefined);
    await stream.said('the truncation was applied');
    await pipeline.equal();
    expect(await documents()).toBe(0);
    await stream.stop();
    stream = await pipeline.start('stream');
    await db.query(MORE_LOGS);
    await pipeline.equal();
  } finally {
    await proxy.close();
  }
});

it('one that was ignored is remembered when Kafka has lost everything: a reconcile leaves what the policy keeps', async () => {
  await Promise.all([stream.stop(), sink.stop()]);
  const ignoring = new Pipeline({ ...pipeline.env, TRUNCATE_POLICY: 'ignore' });
  try {
    let run = await ignoring.start('run');
    const kept = await documents();
    expect(kept).toBeGreaterThan(20);
    await db.query(`TRUNCATE ${TABLE}`);
    await run.said('the table was truncated');
    await ignoring.drained();
    await run.stop();
    await ignoring.verb(['teardown']);
    await ignoring.verb(['setup']);
    run = await ignoring.start('run');
    await ignoring.verb(['migrate']);
    const report = JSON.parse(await ignoring.verb(['validate', '--full', '--repair', '--delete-extra', '--json'])) as ValidationReport;
    await ignoring.drained();
    expect(report).toMatchObject({ verdict: 'equal', apart: { 'kept-by-policy': kept }, repair: { tombstonesPublished: 0 } });
    expect(await documents()).toBe(kept);
  } finally {
    await ignoring.killAll();
  }
});
