import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, expect, it } from 'vitest';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline, until } from '../support/pipeline.ts';
import { isolate, ownServers } from '../support/servers.ts';

/*
 * A copy of the data folder is put back, and the application writes on before anybody reads: the log then ends above
 * everything that was ever confirmed, under the same identifiers. Versions of two branches would mix without a word.
 */
const here = isolate(import.meta.filename);
const own = ownServers();
let pipeline: Pipeline;

afterAll(() => pipeline?.killAll());

it('a source that was put back and has outgrown what was confirmed is told by the commit that its log lacks', async () => {
  const server = await own.postgres();
  const [data, copy] = [join(server.home, 'data'), join(server.home, 'copy')];
  pipeline = new Pipeline({ ...here.env, ...server.env, KAFKA_PARTITIONS: '2' });
  let db = await pipeline.connect();
  await createDifySchema(db);
  const { tenants } = await loadDataset(db, { seed: 46, tenants: 1, runs: 40, nodesPerRun: 2, rowSize: 1800, months: ['2026-08'] });
  const write = async (seed: number, enough: () => Promise<boolean>): Promise<void> => {
    const writer = pipeline.write({ seed, tenantIds: tenants, deletes: 0.3 });
    await until('enough was written', enough);
    await writer.stop();
  };
  const lsn = async (of: pg.Client): Promise<bigint> => BigInt((await of.query<{ lsn: string }>("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS lsn")).rows[0]!.lsn);
  const whileStopped = async (work: () => void): Promise<void> => {
    await db.end();
    await server.stop();
    work();
    await server.start();
    db = await pipeline.connect();
  };

  await pipeline.verb(['setup']);
  let stream = await pipeline.start('stream');
  await pipeline.start('sink');
  await pipeline.verb(['migrate']);
  await pipeline.equal();
  await stream.stop();
  await whileStopped(() => void execFileSync('cp', ['-a', data, copy]));
  const copied = await lsn(db);
  stream = await pipeline.start('stream');
  await write(47, async () => (await lsn(db)) > copied + 500_000n);
  await pipeline.equal();
  await stream.stop();
  const confirmed = await lsn(db);
  await whileStopped(() => {
    rmSync(data, { recursive: true });
    execFileSync('mv', [copy, data]);
  });
  expect(await lsn(db)).toBeLessThan(confirmed);
  await write(48, async () => (await lsn(db)) > confirmed + 500_000n);

  stream = await pipeline.start('stream');
  await stream.said('source-restored');
  await pipeline.drained();
  expect((await pipeline.oracle()).equal, 'two branches are mixed until it is read again').toBe(false);
  const { state } = JSON.parse(await pipeline.verb(['status', '--json'])) as { state: { value: { required: { reason: string; reconcile: boolean }[] } } };
  expect(state.value.required).toHaveLength(4);
  for (const required of state.value.required) expect(required).toMatchObject({ reason: 'source-restored', reconcile: true });
  await pipeline.verb(['migrate']);
  await pipeline.verb(['validate', '--full', '--repair', '--delete-extra']);
  await pipeline.equal();

  // The commit that is known is met again after every restart of a source that is what it was.
  await write(49, async () => true);
  await pipeline.drained();
  await Promise.all([stream.kill9(), server.kill9()]);
  await db.end();
  await server.start();
  stream = await pipeline.start('stream');
  await write(50, async () => true);
  await pipeline.equal();
  expect(stream.hasSaid('a full backfill is required')).toBe(false);
});
