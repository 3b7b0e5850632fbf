import type pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { connect } from '../../../src/pipeline/capture/pg-connection.ts';
import { createSlot, inspectSlot } from '../../../src/pipeline/capture/slot.ts';
import type { EpochDecision } from '../../../src/pipeline/capture/epoch.ts';
import { countHidden, waitUntilVisible } from '../../../src/pipeline/capture/visibility.ts';
import { type LocalServer, ownServers } from '../../support/servers.ts';
import { insertRun, longText, MemoryKafka, openSource, startStream, tableAsText, targetOf, topicAsText, type Names, type RunningStream } from './harness.ts';

/** What a shared server must not suffer: settings of the whole server, a restart. */
const servers = ownServers();
let server: LocalServer;
let names: Names;
let client: pg.Client;
let running: RunningStream | undefined;

beforeAll(async () => {
  server = await servers.postgres();
  names = { env: server.env, slot: 'dify', publication: 'dify' };
  client = await openSource(names);
});
afterEach(async () => {
  await running?.loop.stop();
  await standbys('');
});
afterAll(() => client.end());

async function standbys(value: string): Promise<void> {
  await client.query(`ALTER SYSTEM SET synchronous_standby_names = '${value}'`);
  await client.query('SELECT pg_reload_conf()');
  await expect.poll(async () => (await client.query('SHOW synchronous_standby_names')).rows[0].synchronous_standby_names, { timeout: 20_000 }).toBe(value);
}

/** A commit that waits for a standby that nobody has. Returns its backend, its end and the id of its row. */
async function hiddenCommit(status: string, id?: string): Promise<{ ended: Promise<unknown>; pid: number; id: string }> {
  const writer = await connect(targetOf(names.env), { role: 'test' });
  const pid = (await writer.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid;
  const row = id ?? crypto.randomUUID();
  const ended = (id === undefined ? insertRun(writer, { id: row, status }) : writer.query('UPDATE workflow_runs SET status = $2 WHERE id = $1', [row, status])).finally(() => writer.end());
  await expect.poll(async () => (await client.query('SELECT wait_event FROM pg_stat_activity WHERE pid = $1', [pid])).rows[0].wait_event, { timeout: 20_000 }).toBe('SyncRep');
  return { ended, pid, id: row };
}

test('a commit that other sessions cannot see yet is held back, and published when they can', async () => {
  const kafka = new MemoryKafka();
  running = startStream(names, kafka, { cacheBytes: 0 });
  const id = await insertRun(client, { graph: longText(), status: 's0' });
  await running.drained(client);
  await standbys('nobody');
  const { ended } = await hiddenCommit('s1', id);
  // The reader has it: the commit record is in the WAL. Nobody else does.
  await expect.poll(() => running!.progress()!.receivedLsn !== null, { timeout: 20_000 }).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expect((await client.query('SELECT status FROM workflow_runs WHERE id = $1', [id])).rows[0].status).toBe('s0');
  expect(kafka.records).toHaveLength(1);
  await standbys('');
  await ended;
  await running.drained(client);
  expect(kafka.records).toHaveLength(2);
  expect(topicAsText(kafka, 'workflow_runs')).toEqual(await tableAsText(client, 'workflow_runs'));
});

test('a commit that stays hidden ends the reader with a code of its own, and comes again afterwards', async () => {
  const kafka = new MemoryKafka();
  running = startStream(names, kafka, { options: { visibilityTimeoutMs: 500 } });
  await running.drained(client);
  await standbys('nobody');
  const { ended, id } = await hiddenCommit('late');
  await expect(running.ended).rejects.toMatchObject({ code: 'PG_NOT_VISIBLE' });
  await standbys('');
  await ended;
  running = startStream(names, kafka);
  await running.drained(client);
  expect(kafka.records.map(({ key }) => key.id)).toEqual([id]);
});

test('transactions are looked up by their 32 bits: visible, hidden and still running ones are told apart', async () => {
  const xid32 = async (one: pg.ClientBase): Promise<number> => Number((await one.query<{ xid: string }>('SELECT pg_current_xact_id()::xid::text AS xid')).rows[0]!.xid);
  const done = await xid32(client);
  const open = await connect(targetOf(names.env), { role: 'test' });
  await open.query('BEGIN');
  const running_ = await xid32(open);
  expect([await countHidden(client, [done]), await countHidden(client, [running_]), await countHidden(client, [done, running_, 3])]).toEqual([0, 1, 1]);
  await expect(waitUntilVisible(client, [running_], { timeoutMs: 50 })).rejects.toMatchObject({ code: 'PG_NOT_VISIBLE' });
  const visible = waitUntilVisible(client, [done, running_, running_], { timeoutMs: 20_000 });
  await open.query('COMMIT');
  await visible;
  await open.end();
});

test.each(['*', '"dify-es stream"', 'FIRST 1 (somebody, "DIFY-ES stream")'])('a server that would wait for the reader at each commit (%s) is refused', async (setting) => {
  // COMMITs of this session must not wait either.
  await client.query('SET synchronous_commit = local');
  await standbys(setting);
  await expect(startStream(names, new MemoryKafka()).ended).rejects.toMatchObject({ code: 'PG_SYNC_STANDBY' });
});

test('a server that restarts under load is waited for, and nothing is lost', async () => {
  const kafka = new MemoryKafka();
  running = startStream(names, kafka);
  await running.drained(client);
  const ids: string[] = [];
  for (let i = 0; i < 30; i++) ids.push(await insertRun(client, { graph: longText() }));
  await server.kill9();
  await running.until(({ connected }) => !connected);
  await server.start();
  client = await connect(targetOf(names.env), { role: 'test' });
  for (const id of ids) await client.query(`UPDATE workflow_runs SET status = 'succeeded' WHERE id = $1`, [id]);
  await running.drained(client);
  expect(topicAsText(kafka, 'workflow_runs').size).toBeGreaterThanOrEqual(30);
  for (const id of ids) expect(topicAsText(kafka, 'workflow_runs').get(id)).toEqual((await tableAsText(client, 'workflow_runs')).get(id));
});

test('a slot whose WAL is gone ends the reader with the cure', async () => {
  await createSlot(client, 'starved');
  await client.query(`ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'`);
  await client.query('SELECT pg_reload_conf()');
  await expect.poll(async () => {
    await client.query('CREATE TABLE IF NOT EXISTS filler (t text)');
    await client.query(`INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 10000)`);
    await client.query('SELECT pg_switch_wal()');
    await client.query('CHECKPOINT');
    return (await inspectSlot(client, 'starved'))?.walStatus;
  }, { timeout: 60_000 }).toBe('lost');
  await client.query('ALTER SYSTEM RESET max_slot_wal_keep_size');
  await client.query('SELECT pg_reload_conf()');
  await expect(startStream({ ...names, slot: 'starved' }, new MemoryKafka()).ended).rejects.toMatchObject({ code: 'PG_SLOT_LOST' });
});

test('a server put back from an older copy of its data begins a new epoch, whose versions lie above the old ones', async () => {
  // Both identifiers are the same, only the WAL ends earlier: the copy is taken while the server is stopped.
  const first = await servers.postgres({ settings: { max_wal_size: '64MB' } });
  const here: Names = { env: first.env, slot: 'dify', publication: 'dify' };
  const kafka = new MemoryKafka();
  const writer = await openSource(here);
  const id = await insertRun(writer, { status: 'before' });
  const before = startStream(here, kafka);
  await before.drained(writer);
  await before.loop.stop();
  await writer.end();
  await first.stop();
  const copy = await servers.postgres({ from: `${first.home}/data` });
  await first.start();
  const later = await connect(targetOf(first.env), { role: 'test' });
  await later.query(`UPDATE workflow_runs SET status = 'lost with the disk' WHERE id = $1`, [id]);
  const second = startStream(here, kafka);
  await second.drained(later);
  await second.loop.stop();
  await later.end();

  const told: EpochDecision[] = [];
  const restored = startStream({ ...here, env: copy.env }, kafka, { hooks: { onEpoch: async (decision) => void told.push(decision) } });
  const after = await connect(targetOf(copy.env), { role: 'test' });
  await after.query(`UPDATE workflow_runs SET status = 'after' WHERE id = $1`, [id]);
  await restored.until(({ records }) => records > 0);
  await restored.loop.stop();
  await after.end();
  expect(told).toMatchObject([{ epoch: 2, changed: 'source-restored' }]);
  const versions = kafka.records.filter(({ key }) => key.id === id).map(({ version }) => version);
  expect(versions.at(-1)! > versions.at(-2)!).toBe(true);
});
