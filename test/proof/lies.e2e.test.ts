import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { isBulk, lyingElasticsearch, type BulkOperation, type Lie, type LyingElasticsearch, type SeenRequest } from '../support/faults/lying-elasticsearch.ts';
import { Pipeline } from '../support/pipeline.ts';
import { isolate } from '../support/servers.ts';

/*
 * The sink as a process, and between it and the real server one that lies in every way there is, in turn, while the
 * application writes. What the sink makes of each lie alone is in test/pipeline/sink/sink-faults.es.test.ts.
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
let db: pg.Client;
let proxy: LyingElasticsearch;
let tenants: readonly string[] = [];

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  ({ tenants } = await loadDataset(db, { seed: 61, tenants: 2, runs: 40, nodesPerRun: 2, rowSize: 1800, months: [new Date().toISOString().slice(0, 7)] }));
  proxy = await lyingElasticsearch(here.elasticsearchUrl);
  await pipeline.verb(['setup']);
  await pipeline.start('stream');
});
afterAll(async () => {
  await pipeline.killAll();
  await proxy?.close();
  await db?.end();
});

const everySecond = (status: number, type: string): Lie => {
  let item = 0;
  return { kind: 'items', of: (_: BulkOperation) => (item++ % 2 === 0 ? { status, type } : undefined) };
};

const LIES: Readonly<Record<string, (bulk: SeenRequest) => Lie | undefined>> = {
  'items refused with 429': () => everySecond(429, 'es_rejected_execution_exception'),
  'items refused with 503': () => everySecond(503, 'unavailable_shards_exception'),
  'items refused with 400: the maximum of shards is open': () => everySecond(400, 'validation_exception'),
  'items refused with 403: a cluster block': () => everySecond(403, 'cluster_block_exception'),
  // of a single document it would be true, and its end the dead letters
  'the bulk refused with 413': ({ operations }) => (operations.length > 1 ? { kind: 'answer', status: 413, body: '' } : undefined),
  'the bulk refused with 429': () => ({ kind: 'answer', status: 429, body: { error: { type: 'circuit_breaking_exception' } } }),
  'the bulk refused with 503': () => ({ kind: 'answer', status: 503, body: '<html>' }),
  'carried out, and the connection cut': () => ({ kind: 'cut' }),
  'carried out, and half an answer': () => ({ kind: 'tear' }),
  'passed on after 3 seconds': () => ({ kind: 'stall', until: sleep(3_000) }),
  'carried out, and the answer held for a minute': () => ({ kind: 'hold', until: sleep(60_000) }),
};

/** Each twice, so that some meet what the first ones left; a minute is long enough once. */
const TURNS = [...Object.keys(LIES), ...Object.keys(LIES).filter((name) => !name.includes('minute'))];

it('a lying Elasticsearch costs nothing: both ends are equal after every lie was told', async () => {
  const told: string[] = [];
  const allTold = Promise.withResolvers<void>();
  proxy.lie((seen) => {
    const name = TURNS[told.length];
    const lie = isBulk(seen) && name !== undefined ? LIES[name]!(seen) : undefined;
    if (lie && told.push(name!) === TURNS.length) allTold.resolve();
    return lie;
  });
  const writer = pipeline.write({ seed: 62, tenantIds: tenants, writesPerSecond: 40, deletes: 0.2 });
  await pipeline.verb(['migrate']);
  const sink = await pipeline.start('sink', { env: { ELASTICSEARCH_HOSTS: JSON.stringify([proxy.url]) } });
  await Promise.race([allTold.promise, sink.ended]);
  await writer.reached(writer.counts().transactions + 20);
  await writer.stop();
  await proxy.idle();
  await pipeline.equal();
  expect(told).toEqual(TURNS);
  expect(sink.isRunning(), sink.describe()).toBe(true);
  expect(JSON.parse(await pipeline.verb(['dlq', 'list', '--json']))).toMatchObject({ open: 0 });
  await sink.stop();
});
