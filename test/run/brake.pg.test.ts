import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig, readEnvironment } from '../../src/config/config.ts';
import { readLoad } from '../../src/ops/watch/source-load.ts';
import { openPool } from '../../src/pipeline/capture/pg-connection.ts';
import { createSlot } from '../../src/pipeline/capture/slot.ts';
import { createBrake } from '../../src/run/brake.ts';
import { pinned, targetOf } from '../pipeline/backfill/harness.ts';
import { isolate, ownServers } from '../support/servers.ts';

const here = isolate(import.meta.filename);
const own = ownServers();
const EVERY_MS = 50;
let db: pg.Client;

beforeAll(async () => {
  db = await application();
  await db.query('CREATE TABLE t (n int, filler text); INSERT INTO t VALUES (0)');
});
afterAll(() => db.end());

async function application(url = here.postgresUrl): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'dify' });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

interface Line { readonly msg: string; readonly why?: string }

/** A brake whose lines are kept. `said(text)` resolves when a line with it comes. */
function brakeFor(env: Readonly<Record<string, string>>) {
  const lines: Line[] = [];
  const waiting: { text: string; done: () => void }[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => {
    lines.push(JSON.parse(line) as Line);
    for (const { text, done } of waiting) if (line.includes(text)) done();
  } });
  const stop = new AbortController();
  const brake = createBrake(loadConfig(readEnvironment({ ...here.env, ...env })), log, stop.signal, EVERY_MS);
  const said = (text: string): Promise<void> => new Promise((done) => (lines.some((line) => JSON.stringify(line).includes(text)) ? done() : void waiting.push({ text, done })));
  return { brake, lines, said, stop };
}

/** It waits, says why once over several looks, and goes on, said once too, when the cause is gone. */
async function expectBraking({ brake, lines, said }: ReturnType<typeof brakeFor>, why: RegExp, cure: () => Promise<unknown>): Promise<void> {
  let proceeded = 0;
  const workers = [1, 2, 3].map(() => brake.mayProceed().then(() => proceeded++));
  await said('waits to spare the source');
  await new Promise((resolve) => setTimeout(resolve, 6 * EVERY_MS));
  expect(proceeded).toBe(0);
  await cure();
  await Promise.all(workers);
  await brake.close();
  expect(lines.map(({ msg }) => msg)).toEqual(['the backfill waits to spare the source', 'the backfill goes on: the source fares well again']);
  expect(lines[0]!.why).toMatch(why);
}

describe('the brake', () => {
  test('lets a backfill pass beside an idle source, without a word', async () => {
    const { brake, lines } = brakeFor({});
    await brake.mayProceed();
    await brake.close();
    expect(lines).toEqual([]);
  });

  test('waits while sessions of the application wait for one another', async () => {
    const holder = await application();
    const waiters = await Promise.all([1, 2, 3].map(() => application()));
    await holder.query('BEGIN; UPDATE t SET n = 1');
    const updates = waiters.map((client) => client.query('UPDATE t SET n = n + 1'));
    const pool = openPool(targetOf(here), { role: 'brake', max: 1 });
    await expect.poll(async () => (await readLoad(pool, here.slot)).waiting, { timeout: 20_000 }).toBe(3);
    await pool.end();
    await expectBraking(brakeFor({ MIGRATE_MAX_WAITING: '2' }), /^3 sessions of others wait/, async () => {
      await holder.query('COMMIT');
      await Promise.all(updates);
    });
    await Promise.all([holder, ...waiters].map((client) => client.end()));
  });

  test('waits while the reader is behind', async () => {
    const session = await pinned(here)();
    await createSlot(session, here.slot);
    await db.query("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 3000) n");
    await expectBraking(brakeFor({ MIGRATE_MAX_LAG: '1MB' }), /^the reader is \d+ MB of WAL behind/, () => db.query('SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())', [here.slot]));
    await session.query('SELECT pg_drop_replication_slot($1)', [here.slot]);
    await session.end();
  });

  test('ends its waiting with the verb', async () => {
    const session = await pinned(here)();
    await createSlot(session, here.slot);
    await db.query("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 3000) n");
    const braking = brakeFor({ MIGRATE_MAX_LAG: '1MB' });
    const waits = braking.brake.mayProceed();
    await braking.said('waits to spare the source');
    braking.stop.abort();
    await waits;
    await braking.brake.close();
    await session.query('SELECT pg_drop_replication_slot($1)', [here.slot]);
    await session.end();
  });

  test('sees a standby that is behind, and does not take a logical reader for one', async () => {
    const made = await own.postgres();
    await made.stop();
    const standby = await own.postgres({ from: `${made.home}/data`, standby: true, settings: { primary_conninfo: `host=127.0.0.1 port=${made.port} user=postgres password=difyai123456 application_name=s1` } });
    await made.start();
    const [primary, replica] = [await application(made.url), await application(standby.url)];
    const url = new URL(made.url);
    const pool = openPool({ host: url.hostname, port: Number(url.port), user: url.username, password: decodeURIComponent(url.password), database: url.pathname.slice(1), ssl: false }, { role: 'brake', max: 1 });
    await expect.poll(async () => (await readLoad(pool, 'none')).standby, { timeout: 60_000 }).toBe('s1');
    await replica.query('SELECT pg_wal_replay_pause()');
    await primary.query("CREATE TABLE t (n int, filler text); INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 3000) n");
    const env = { DB_HOST: url.hostname, DB_PORT: url.port, DB_DATABASE: url.pathname.slice(1), MIGRATE_MAX_LAG: '1MB' };
    await expectBraking(brakeFor(env), /^the standby s1 is \d+ MB of WAL behind/, () => replica.query('SELECT pg_wal_replay_resume()'));
    await Promise.all([primary.end(), replica.end(), pool.end()]);
  });
});
