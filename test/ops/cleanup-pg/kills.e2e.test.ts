import type pg from 'pg';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CRASH_POINTS, type CrashPoint } from '../../../src/core/crash-point.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { Random } from '../../support/dify/random.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import type { LiveWriter } from '../../support/dify/live-writer.ts';
import { Pipeline } from '../../support/pipeline.ts';
import type { Program } from '../../support/program.ts';
import { isolate } from '../../support/servers.ts';
import { Archive } from './archive.ts';

/*
 * P8: cleanup-pg is killed at random moments beside a writer that changes the very rows it looks at, and has never
 * deleted a row that Elasticsearch does not hold with equal content. `npm run test:cleanup` kills a hundred times.
 */
const KILLS = Number(process.env['DIFY_ES_CLEANUP_KILLS'] ?? 6);
const SEED = Number(process.env['DIFY_ES_CLEANUP_SEED'] ?? 1);
/** How often a clean-up passes the point at least, so that a kill at the nth time comes. */
const POINTS: readonly (readonly [point: CrashPoint, times: number])[] = [['cleanup.compared', 12], ['cleanup.deleted', 12], ['cleanup.drained', 2], ['cleanup.announced', 1], ['cleanup.recorded', 1]];
const PAST = new Date(Date.now() - 40 * 86_400_000);

const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
const random = new Random(SEED);
let db: pg.Client;
let archive: Archive;
let writer: LiveWriter | undefined;
let running: Program;
let tenant = '';
let other = '';

const cleanup = (): string[] => ['cleanup-pg', '--tenant-id', tenant, '--before-date', new Date(Date.now() - 5 * 86_400_000).toISOString().slice(0, 10), '--batch-size', '6', '--pause', '5'];
const rowsOf = async (tenantId: string): Promise<number> =>
  Number((await db.query<{ sum: string }>(`SELECT (SELECT count(*) FROM workflow_runs WHERE tenant_id = $1) + (SELECT count(*) FROM workflow_node_executions WHERE tenant_id = $1)
    + (SELECT count(*) FROM workflow_app_logs WHERE tenant_id = $1) + (SELECT count(*) FROM workflow_node_execution_offload WHERE tenant_id = $1) AS sum`, [tenantId])).rows[0]!.sum);

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  const data = await loadDataset(db, { seed: 33 + SEED, tenants: 2, runs: 120 + KILLS * 10, nodesPerRun: 2, rowSize: 1800, offloadShare: 0.2, months: [PAST.toISOString().slice(0, 7)] });
  [tenant, other] = [data.tenants[0]!, data.tenants[1]!];
  archive = await Archive.open(here.env);
  await pipeline.verb(['setup']);
  running = await pipeline.start('run');
  await pipeline.verb(['migrate']);
});
afterAll(async () => {
  await writer?.stop().catch(() => undefined);
  await pipeline.killAll();
  await archive?.close();
  await db?.end();
});

/** One clean-up that dies: at a point, or some time after it has begun. True when it did not end before. */
async function killOnce(turn: number): Promise<boolean> {
  const byPoint = turn < POINTS.length - 1 ? POINTS[turn]! : random.chance(0.5) ? random.pick(POINTS) : null;
  if (byPoint) {
    const [point, times] = byPoint;
    const program = pipeline.spawn(cleanup(), { crashAt: { point, nth: random.int(1, times) } });
    const { signal, code } = await program.ended;
    expect(signal === 'SIGKILL' || code === 0, program.describe()).toBe(true);
    return signal === 'SIGKILL';
  }
  const program = pipeline.spawn(cleanup());
  // far above what it takes: a machine that is busy with other things is no fault of the clean-up
  await program.said('announced', 300_000);
  await sleep(random.int(0, 1500));
  const alive = program.isRunning();
  await program.kill9();
  return alive;
}

it(`killed at ${KILLS} moments, cleanup-pg has never deleted a row that Elasticsearch does not hold with equal content`, async () => {
  const others = await rowsOf(other);
  // runs of the past, so that the clean-up meets rows that are just being written
  writer = pipeline.write({ seed: 77 + SEED, tenantIds: [tenant], writesPerSecond: 30, deletes: 0.1, now: () => new Date(PAST.getTime() + random.int(0, 3_600_000)) });
  await writer.reached(10);
  let kills = 0;
  for (let turn = 0; kills < KILLS; turn++) {
    if (turn > KILLS * 3) throw new Error(`only ${kills} of ${turn} clean-ups could be killed: they end too early`);
    if (await killOnce(turn)) kills++;
    expect(await archive.lost(), `after kill ${kills}`).toEqual([]);
    if (kills % 10 === 0) console.log(`${kills} kills, ${await archive.count()} rows deleted, 0 lost`);
    // the reader may meet the marked transactions again after its own death
    if (turn === 3) {
      await running.kill9();
      running = await pipeline.start('run');
    }
  }
  await writer.stop();
  writer = undefined;
  expect(await archive.count()).toBeGreaterThan(0);

  // runs that the writer left behind in the middle: they would stay as unfinished
  for (const table of ['workflow_runs', 'workflow_node_executions']) await db.query(`UPDATE ${table} SET status = 'stopped' WHERE status IN ('running', 'paused')`);
  const { tables } = JSON.parse(await pipeline.verb([...cleanup(), '--json'])) as { tables: { deleted: number; stayed: Record<string, number> }[] };
  expect(tables.flatMap(({ stayed }) => Object.values(stayed))).toEqual(tables.flatMap(({ stayed }) => Object.keys(stayed).map(() => 0)));
  await pipeline.drained();
  expect(await archive.lost(), 'in the end').toEqual([]);
  expect(await rowsOf(tenant)).toBe(0);
  expect(await rowsOf(other)).toBe(others);
  const report = JSON.parse(await pipeline.verb(['validate', '--full', '--json'])) as { verdict: string; apart: { archived: number } };
  expect(report).toMatchObject({ verdict: 'equal', apart: { archived: await archive.count() } });
  console.log(`${kills} kills, ${await archive.count()} rows deleted, 0 lost`);
}, Math.max(300_000, KILLS * 40_000));

it('every crash point of a clean-up is among the moments', () => {
  expect(POINTS.map(([point]) => point).sort()).toEqual(CRASH_POINTS.filter((point) => point.startsWith('cleanup.')).sort());
});
