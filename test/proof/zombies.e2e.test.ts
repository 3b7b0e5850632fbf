import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { isBulk, lyingElasticsearch } from '../support/faults/lying-elasticsearch.ts';
import { loadDataset } from '../support/dify/generator.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { openMigrates } from '../support/migrates.ts';
import { Pipeline, until } from '../support/pipeline.ts';
import type { Program } from '../support/program.ts';
import { isolate } from '../support/servers.ts';

/*
 * Writers are fenced (docs/02-ordering.md). A process that was stopped (SIGSTOP, a paused container, a laptop's lid) wakes up
 * after another took its work over. It may do what it likes: both ends stay equal, and so does a replay of the topics
 * into empty indices, which would show a record that landed behind a newer one.
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
let db: pg.Client;
let tenants: readonly string[] = [];
let stream: Program;
let sink: Program;
let seed = 300;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  ({ tenants } = await loadDataset(db, { seed: 31, tenants: 1, runs: 80, nodesPerRun: 2, rowSize: 1800, months: [new Date().toISOString().slice(0, 7)] }));
  await pipeline.verb(['setup']);
  [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
  await pipeline.verb(['migrate']);
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

const terminateReader = (): Promise<unknown> => db.query('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL', [here.slot]);

describe('a second reader', () => {
  it('waits while the first one reads, and takes over when that dies', async () => {
    const writer = pipeline.write({ seed: seed++, tenantIds: tenants, writesPerSecond: 40 });
    const second = pipeline.spawn(['stream']);
    await second.said('PG_SLOT_BUSY');
    expect(second.hasSaid('reading the log')).toBe(false);
    await stream.kill9();
    await second.said('reading the log');
    stream = second;
    await writer.reached(writer.counts().transactions + 20);
    await writer.stop();
    await pipeline.equal();
  });

  it('goes on at the right place when its connection is cut in the middle of a large transaction', async () => {
    const walsender = async (): Promise<{ pid: number; waits: string | null } | undefined> => (await db.query<{ pid: number; waits: string | null }>('SELECT pid, wait_event AS waits FROM pg_replication_slots JOIN pg_stat_activity ON pid = active_pid WHERE slot_name = $1', [here.slot])).rows[0];
    // Asleep while the transaction is sent: PostgreSQL is then seen to be stuck in the middle of it.
    stream.pause();
    await db.query('BEGIN');
    await db.query("INSERT INTO workflow_app_logs SELECT gen_random_uuid(), tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at FROM workflow_app_logs, generate_series(1, 150)");
    await db.query("UPDATE workflow_runs SET status = 'stopped'");
    await db.query('COMMIT');
    await until('the walsender cannot send the rest', async () => (await walsender())?.waits === 'WalSenderWriteData');
    let cut = (await walsender())?.pid;
    await terminateReader();
    stream.resume();
    for (let again = 0; again < 2; again++) {
      await until('the reader holds the slot again', async () => ![undefined, cut].includes((await walsender())?.pid));
      cut = (await walsender())?.pid;
      await terminateReader();
    }
    await pipeline.equal();
    expect(stream.isRunning()).toBe(true);
  });
});

describe('a zombie', () => {
  it('reader that wakes after another took the slot over changes nothing', async () => {
    const writer = pipeline.write({ seed: seed++, tenantIds: tenants, writesPerSecond: 60, deletes: 0.3 });
    await writer.reached(40);
    const zombie = stream;
    zombie.pause();
    const second = pipeline.spawn(['stream']);
    await second.said('PG_SLOT_BUSY');
    // As wal_sender_timeout would, a minute later.
    await terminateReader();
    await second.said('reading the log');
    stream = second;
    await writer.reached(writer.counts().transactions + 40);
    zombie.resume();
    await Promise.race([zombie.ended, until('the zombie has noticed', () => zombie.hasSaid('waiting to read on'))]);
    await writer.reached(writer.counts().transactions + 20);
    await writer.stop();
    await pipeline.equal();
    await zombie.kill9();
  });

  it('sink that wakes after its partitions went to another changes nothing', async () => {
    await sink.stop();
    const proxy = await lyingElasticsearch(here.elasticsearchUrl);
    onTestFinished(() => proxy.close());
    const zombie = await pipeline.start('sink', { env: { ELASTICSEARCH_HOSTS: JSON.stringify([proxy.url]) } });
    const writer = pipeline.write({ seed: seed++, tenantIds: tenants, writesPerSecond: 60, deletes: 0.3 });
    await writer.reached(40);
    // It falls asleep over a bulk that is on its way and arrives when it wakes, with rows that have changed since.
    const awake = Promise.withResolvers<void>();
    proxy.lie((request) => (isBulk(request) && request.operations.length > 0 ? { kind: 'stall', until: awake.promise } : undefined));
    await until('a bulk is on its way', () => proxy.told > 0);
    zombie.pause();
    const held = proxy.requests.findLast(isBulk)!.operations;
    sink = await pipeline.start('sink');
    await writer.reached(writer.counts().transactions + 40);
    proxy.lie(undefined);
    awake.resolve();
    zombie.resume();
    expect(held.length, 'operations in its hands').toBeGreaterThan(0);
    await writer.reached(writer.counts().transactions + 40);
    await writer.stop();
    await pipeline.equal();
    expect(zombie.isRunning(), zombie.describe()).toBe(true);
    await zombie.stop();
  });

  it('migrate that wakes after another finished its run is refused', async () => {
    await pipeline.emptied();
    const zombie = pipeline.spawn(['migrate', '--batch-size', '10', '--rate', '60']);
    // Not sooner: one that sleeps before it has a range of the run finds, when it wakes, that nothing is left to do.
    const migrates = await openMigrates(here);
    await migrates.inMidRange(zombie);
    await migrates.close();
    zombie.pause();
    expect(JSON.parse(await pipeline.verb(['migrate', '--json']))).toMatchObject({ state: 'done', resumed: true });
    await db.query("UPDATE workflow_runs SET status = 'partial-succeeded', outputs = NULL");
    await db.query('DELETE FROM workflow_node_executions WHERE id IN (SELECT id FROM workflow_node_executions LIMIT 40)');
    zombie.resume();
    const { code } = await zombie.ended;
    expect(code, zombie.describe()).toBeGreaterThan(0);
    await pipeline.equal();
  });

  it('has left nothing in the log: a replay into empty indices ends equal', async () => {
    await sink.stop();
    await pipeline.replayedEqual();
    sink = await pipeline.start('sink');
  });
});

describe('a slot that is gone', () => {
  it('stops the reader with the cure, and after setup, migrate and a reconcile both ends are equal', async () => {
    await terminateReader();
    await stream.kill9();
    await until('the slot is free', async () => (await db.query('SELECT active FROM pg_replication_slots WHERE slot_name = $1', [here.slot])).rows[0].active === false);
    await db.query('SELECT pg_drop_replication_slot($1)', [here.slot]);
    await db.query('DELETE FROM workflow_runs WHERE id IN (SELECT id FROM workflow_runs LIMIT 5)');
    await db.query("UPDATE workflow_node_executions SET title = 'changed while nobody read'");
    const lost = pipeline.spawn(['stream']);
    expect((await lost.ended).code, lost.describe()).toBeGreaterThan(0);
    expect(lost.describe()).toMatch(/slot/);

    expect(await pipeline.verb(['setup'])).toContain('BACKFILL REQUIRED');
    stream = await pipeline.start('stream');
    await pipeline.verb(['migrate']);
    // The repair would bring what migrate has missed.
    expect(await pipeline.nothingMissing(), 'documents of the rows that were deleted while nobody read').toBe(5);
    await pipeline.verb(['validate', '--full', '--repair', '--delete-extra']);
    await pipeline.equal();
  });
});

