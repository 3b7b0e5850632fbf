import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ValidationReport } from '../../../src/ops/validate/report.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { lyingElasticsearch, type LyingElasticsearch } from '../../support/faults/lying-elasticsearch.ts';
import { Pipeline } from '../../support/pipeline.ts';
import { isolate } from '../../support/servers.ts';
import { Archive } from '../cleanup-pg/archive.ts';

/* A validation takes hours, and a clean-up may come and go meanwhile: its documents are then the only copy. */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
let db: pg.Client;
let archive: Archive;
let proxy: LyingElasticsearch;
let tenant = '';

beforeAll(async () => {
  proxy = await lyingElasticsearch(here.elasticsearchUrl);
  db = await pipeline.connect();
  await createDifySchema(db);
  tenant = (await loadDataset(db, { seed: 15, tenants: 1, runs: 30, nodesPerRun: 2, rowSize: 1800, months: ['2025-01', '2025-02'] })).tenants[0]!;
  archive = await Archive.open(here.env);
  await pipeline.verb(['setup']);
  await pipeline.start('run');
  await pipeline.verb(['migrate']);
  await pipeline.drained();
});
afterAll(async () => {
  await pipeline.killAll();
  await proxy?.close();
  await archive?.close();
  await db?.end();
});

it('what a clean-up archives while a validation runs is no surplus to it, and --delete-extra leaves it', async () => {
  let go = (): void => undefined;
  const cleaned = new Promise<void>((resolve) => (go = resolve));
  const isScan = ({ path }: { path: string }): boolean => path.includes('/_pit');
  proxy.lie((seen) => (isScan(seen) ? { kind: 'stall', until: cleaned } : undefined));
  const validation = pipeline.spawn(['validate', '--full', '--repair', '--delete-extra', '--json'], { env: { ELASTICSEARCH_HOSTS: JSON.stringify([proxy.url]) } });
  // The rows were read, and what was archived by then is known.
  await proxy.seen(1, isScan);
  await pipeline.verb(['cleanup-pg', '--tenant-id', tenant, '--before-date', '2025-02-01', '--pause', '0']);
  const archived = await archive.count();
  expect(archived).toBeGreaterThan(50);
  go();
  const { code } = await validation.ended;
  const report = JSON.parse(validation.stdout) as ValidationReport;
  await pipeline.drained();
  expect(await archive.lost()).toEqual([]);
  expect(report).toMatchObject({ verdict: 'equal', repair: { tombstonesPublished: 0 } });
  expect(code, validation.describe()).toBe(0);
});

it('a shell with another DELETE_POLICY than the stream is refused before anything is judged by it', async () => {
  for (const verb of [['validate', '--full', '--repair', '--delete-extra'], ['migrate']]) {
    const refused = pipeline.spawn(verb, { env: { DELETE_POLICY: 'ignore' } });
    expect(await refused.ended, refused.describe()).toMatchObject({ code: 2 });
    expect(refused.describe()).toContain('DELETE_POLICY is ignore here, but the stream runs with apply');
  }
});
