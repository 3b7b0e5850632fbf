import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type Lsn, parseLsn } from '../../../src/core/lsn.ts';
import { type Blocker, describeBlocker, takeBarrier } from '../../../src/pipeline/backfill/barrier.ts';
import { ReadSession } from '../../../src/pipeline/backfill/read-session.ts';
import { connect, type PgTarget } from '../../../src/pipeline/capture/pg-connection.ts';
import { PgoutputDecoder } from '../../../src/pipeline/decode/pgoutput.ts';
import { createDifySchema, dropDifySchema } from '../../support/dify/schema.ts';
import { isolate, ownServers } from '../../support/servers.ts';
import { openSession, pinned, targetOf } from './harness.ts';

const here = isolate(import.meta.filename);
const servers = ownServers();
const TENANT = '00000000-0000-4000-8000-000000000001';
const INSERT = `INSERT INTO workflow_app_logs (tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by)
  VALUES ('${TENANT}', '${TENANT}', '${TENANT}', '${TENANT}', 'web-app', 'account', '${TENANT}')`;
const never = new AbortController().signal;
let client: pg.Client;
let session: ReadSession;

beforeAll(async () => {
  client = await pinned(here)();
  session = await openSession(here);
});
afterAll(async () => {
  session.close();
  await client.end();
});
beforeEach(async () => {
  await dropDifySchema(client);
  await createDifySchema(client);
});

/** A connection that ends with its test, also a failed one: an open transaction would hold up the next test. */
async function another(role = 'migrate'): Promise<pg.Client> {
  const one = await connect(targetOf(here), { role });
  onTestFinished(() => one.end());
  return one;
}

/** Who holds the barrier; an error when nobody does. */
const holders = (barrier: Promise<Lsn>, blocked: Promise<readonly Blocker[]>): Promise<readonly Blocker[]> =>
  Promise.race([blocked, barrier.then(() => Promise.reject(new Error('the barrier did not wait')))]);

const quick = (over: { timeoutMs?: number; signal?: AbortSignal; onBlocked?: (blockers: readonly Blocker[]) => void } = {}): Promise<Lsn> =>
  takeBarrier(session, { timeoutMs: 10_000, signal: never, ...over });

describe('the barrier', () => {
  test('lies at the end of the log and comes at once when nobody writes', async () => {
    const before = parseLsn((await client.query('SELECT pg_current_wal_insert_lsn()::text AS lsn')).rows[0].lsn);
    const barrier = await quick();
    expect(barrier).toBeGreaterThanOrEqual(before);
    // On disk: a position above the flushed ones would be given to another change after a crash.
    expect(parseLsn((await client.query('SELECT pg_current_wal_flush_lsn()::text AS lsn')).rows[0].lsn)).toBeGreaterThanOrEqual(barrier);
  });

  test('waits for a transaction that has written and ends, and not for one that only reads', async () => {
    const writer = await another();
    const reader = await another();
    await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await reader.query('SELECT count(*) FROM workflow_app_logs');
    await writer.query('BEGIN');
    await writer.query(INSERT);
    const blocked = Promise.withResolvers<readonly Blocker[]>();
    const barrier = quick({ onBlocked: blocked.resolve });
    const blockers = await holders(barrier, blocked.promise);
    expect(blockers.map(({ pid }) => pid)).toEqual([(await writer.query('SELECT pg_backend_pid() AS pid')).rows[0].pid]);
    await writer.query('COMMIT');
    expect(await barrier).toBeGreaterThan(0n);
  });

  test('names an open writer by pid, application, state and age after the time limit, without its query', async () => {
    const writer = await another('forgetful');
    await writer.query('BEGIN');
    await writer.query(INSERT);
    const { pid } = (await writer.query('SELECT pg_backend_pid() AS pid')).rows[0];
    const error = await quick({ timeoutMs: 50 }).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'BARRIER_BLOCKED' });
    expect((error as Error).message).toMatch(new RegExp(`pid ${pid} \\(dify-es forgetful, idle in transaction, \\d+ s\\)`));
    expect((error as Error).message).not.toContain('INSERT');
  });

  test('names a prepared transaction', async () => {
    onTestFinished(async () => void (await client.query(`ROLLBACK PREPARED '${here.name}'`)));
    await client.query('BEGIN');
    await client.query(INSERT);
    await client.query(`PREPARE TRANSACTION '${here.name}'`);
    const error = await quick({ timeoutMs: 50 }).catch((caught: unknown) => caught);
    expect((error as Error).message).toContain(`prepared transaction '${here.name}'`);
    expect(error).toMatchObject({ code: 'BARRIER_BLOCKED' });
  });

  test('is given up when the signal comes', async () => {
    const writer = await another();
    await writer.query('BEGIN');
    await writer.query(INSERT);
    const stop = new AbortController();
    await expect(quick({ signal: stop.signal, onBlocked: () => stop.abort() })).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('what lies below the barrier', () => {
  // Its own server: with fsync, so that a commit takes a while between its record in the log and its visibility, and
  // with settings that would stop everybody else.
  let target: PgTarget;
  let admin: pg.Client;
  const open = (): Promise<pg.Client> => connect(target, { role: 'migrate' });

  beforeAll(async () => {
    const { env } = await servers.postgres({ durable: true });
    target = { host: env['DB_HOST'] as string, port: Number(env['DB_PORT']), user: env['DB_USERNAME'] as string, password: env['DB_PASSWORD'] as string, database: env['DB_DATABASE'] as string };
    admin = await open();
  });
  afterAll(() => admin.end());
  beforeEach(async () => {
    await dropDifySchema(admin);
    await createDifySchema(admin);
  });

  /** Commit LSN of every insert that the slot has seen, by row id. */
  async function commitLsns(): Promise<Map<string, Lsn>> {
    const decoder = new PgoutputDecoder();
    const lsns = new Map<string, Lsn>();
    let commitLsn = 0n as Lsn;
    const { rows } = await admin.query(`SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')`);
    for (const { data } of rows as { data: Buffer }[]) {
      const message = decoder.decode(data);
      if (message.kind === 'begin') commitLsn = message.commitLsn;
      if (message.kind === 'insert') lsns.set(String(message.tuple.get(0)), commitLsn);
    }
    return lsns;
  }

  test('is seen by every later read, with many writers committing all the time', async () => {
    await admin.query('CREATE PUBLICATION p FOR TABLE workflow_app_logs');
    await admin.query("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    const writers = await Promise.all(Array.from({ length: 12 }, open));
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const writing = writers.map(async (writer, at) => {
      while (!stop.signal.aborted) await writer.query(`BEGIN; ${INSERT}; ${at % 3 === 0 ? 'SELECT pg_sleep(0.01);' : ''} COMMIT`);
      await writer.end();
    });
    const reading = await ReadSession.open(open);
    const read = async (): Promise<Set<string>> => new Set((await reading.query('SELECT id::text FROM workflow_app_logs')).map(([id]) => String(id)));
    const rounds: { barrier: Lsn; seen: Set<string> }[] = [];
    const withoutWaiting: { barrier: Lsn; seen: Set<string> }[] = [];
    for (let round = 0; round < 25; round++) {
      const [position] = await reading.query('SELECT pg_current_wal_insert_lsn()::text');
      withoutWaiting.push({ barrier: parseLsn(String(position?.[0])), seen: await read() });
      rounds.push({ barrier: await takeBarrier(reading, { timeoutMs: 10_000, signal: never }), seen: await read() });
    }
    stop.abort();
    await Promise.all(writing);
    reading.close();
    const commits = await commitLsns();
    await admin.query("SELECT pg_drop_replication_slot('s')");
    const missed = (of: typeof rounds): number => of.reduce((sum, { barrier, seen }) => sum + [...commits].filter(([id, lsn]) => lsn < barrier && !seen.has(id)).length, 0);
    expect(missed(rounds)).toBe(0);
    // What the wait is for: the same reads without it miss rows.
    expect(missed(withoutWaiting)).toBeGreaterThan(0);
  });

  test('includes a commit that waits for a synchronous standby, which nobody else can see yet', async () => {
    await admin.query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    await admin.query('SELECT pg_reload_conf()');
    const writer = await open();
    // The setting reaches a backend with its next command.
    while ((await writer.query('SHOW synchronous_standby_names')).rows[0].synchronous_standby_names === '') await admin.query('SELECT pg_sleep(0.01)');
    const committing = writer.query(INSERT);
    while ((await admin.query("SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event = 'SyncRep'")).rows[0].n === 0) await admin.query('SELECT pg_sleep(0.01)');

    const reading = await ReadSession.open(open);
    // Its commit record is in the log, so L lies above it, and a read without the wait misses it.
    expect(await reading.query('SELECT id FROM workflow_app_logs')).toEqual([]);
    const blocked = Promise.withResolvers<readonly Blocker[]>();
    const barrier = takeBarrier(reading, { timeoutMs: 60_000, signal: never, onBlocked: blocked.resolve });
    expect((await holders(barrier, blocked.promise)).map(describeBlocker).join()).toContain('waiting for a synchronous standby');
    await admin.query('ALTER SYSTEM RESET synchronous_standby_names');
    await admin.query('SELECT pg_reload_conf()');
    await barrier;
    expect((await reading.query('SELECT id FROM workflow_app_logs')).length).toBe(1);
    await committing;
    reading.close();
    await writer.end();
  });
});
