import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema, RELEASES } from '../support/dify/schema.ts';
import { Pipeline } from '../support/pipeline.ts';
import { isolate } from '../support/servers.ts';

/* The oldest shape of Dify's tables through the whole path: no offload table, columns and indexes of another time. */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
let db: pg.Client;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db, { release: RELEASES.at(-1)! });
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

it('rows of the oldest release are moved, streamed and compared as any others', async () => {
  const { tenants } = await loadDataset(db, { seed: 23, tenants: 2, runs: 60, nodesPerRun: 2, months: ['2025-09', '2025-10'] });
  await pipeline.verb(['setup']);
  await pipeline.start('run');
  const writer = pipeline.write({ seed: 24, tenantIds: tenants });
  await writer.reached(40);
  await pipeline.verb(['migrate']);
  await writer.reached(200);
  await writer.stop();
  expect(await pipeline.equal()).toBeGreaterThan(200);
  const answer = JSON.parse(await pipeline.verb(['validate', '--full', '--json'])) as { verdict: string };
  expect(answer.verdict).toBe('equal');
});
