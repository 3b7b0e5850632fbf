import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { LogicalReplicationService } from 'pg-logical-replication';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { WalMessage } from '../../../src/core/contracts.ts';
import { formatLsn, parseLsn, type Lsn } from '../../../src/core/lsn.ts';
import { connect, sessionConfig } from '../../../src/pipeline/capture/pg-connection.ts';
import { PgoutputPlugin } from '../../../src/pipeline/capture/pgoutput-plugin.ts';
import { createSlot, inspectSlot } from '../../../src/pipeline/capture/slot.ts';
import { PgoutputDecoder } from '../../../src/pipeline/decode/pgoutput.ts';
import { valuesOf } from '../../support/cells.ts';
import { isolate } from '../../support/servers.ts';
import { inTransaction, insertRun, openSource, targetOf, TENANT } from './harness.ts';

/*
 * What PostgreSQL and pg-logical-replication do, as far as the reader leans on it. A new version that behaves otherwise
 * fails here, by the name of the fact.
 */

const here = isolate(import.meta.filename);
let client: pg.Client;
const others: pg.Client[] = [];

beforeAll(async () => {
  client = await openSource(here, { slot: false });
  for (let i = 0; i < 16; i++) others.push(await connect(targetOf(here.env), { role: 'test' }));
});
afterAll(() => Promise.all([client, ...others].map((each) => each.end())));

type Seen = { readonly lsn: string; readonly message: WalMessage };

/** Reads a slot by the bare library until the condition holds, does `last` and leaves. Confirms nothing by itself. */
async function readSlot(slot: string, enough: (seen: readonly Seen[]) => boolean, last: (service: LogicalReplicationService) => Promise<unknown> = async () => undefined, parse?: (buffer: Buffer) => void): Promise<Seen[]> {
  const service = new LogicalReplicationService(sessionConfig(targetOf(here.env), { role: 'fact' }), { acknowledge: { auto: false, timeoutSeconds: 0 } });
  const decoder = new PgoutputDecoder();
  const seen: Seen[] = [];
  await new Promise<void>((resolve, reject) => {
    const plugin = new PgoutputPlugin({
      publication: here.publication,
      parse: (buffer) => {
        parse?.(buffer);
        return decoder.decode(buffer);
      },
      onConnected: () => undefined,
    });
    service.on('error', reject);
    service.on('data', (lsn: string, message: WalMessage) => {
      seen.push({ lsn, message });
      if (enough(seen)) resolve();
    });
    service.subscribe(plugin, slot, '0/00000000').catch(reject);
  });
  await last(service);
  await service.destroy();
  return seen;
}

const commits = (seen: readonly Seen[]): Extract<WalMessage, { kind: 'commit' }>[] => seen.flatMap(({ message }) => (message.kind === 'commit' ? [message] : []));
const insertedIds = (seen: readonly Seen[]): string[] => seen.flatMap(({ message }) => (message.kind === 'insert' ? [String(message.tuple.get(0))] : []));
const afterCommits = (count: number) => (seen: readonly Seen[]): boolean => commits(seen).length >= count;

async function copySlot(from: string): Promise<string> {
  const copy = `${here.slot}_${randomUUID().slice(0, 8)}`;
  await client.query('SELECT pg_copy_logical_replication_slot($1, $2)', [from, copy]);
  return copy;
}

/** Confirms by the library what `told` says, waits until the slot stands at `stands`, and leaves the slot. */
async function confirm(slot: string, told: Lsn, stands: Lsn): Promise<void> {
  await readSlot(slot, afterCommits(1), async (service) => {
    await service.acknowledge(formatLsn(told));
    await expect.poll(async () => (await inspectSlot(client, slot))?.confirmedFlushLsn, { timeout: 20_000 }).toBe(stands);
  });
  await expect.poll(async () => (await inspectSlot(client, slot))?.activePid, { timeout: 20_000 }).toBeNull();
}

test('acknowledge(P) of the library reports P + 1, and a commit record that begins exactly at P is then skipped; P - 1 keeps it', async () => {
  const slot = `${here.slot}_ack`;
  await createSlot(client, slot);
  // One writer's commits have its changes between them; of many at once some touch.
  let all: ReturnType<typeof commits> = [];
  let pair = -1;
  for (let written = 0; pair < 0; written += 16 * 25) {
    await Promise.all(others.map(async (one) => {
      for (let i = 0; i < 25; i++) await insertRun(one);
    }));
    all = commits(await readSlot(slot, afterCommits(written + 16 * 25)));
    pair = all.slice(0, -2).findIndex((commit, i) => all[i + 1]!.commitLsn === commit.endLsn);
  }
  const end = all[pair]!.endLsn;
  const rest = all.length - pair - 1;

  const naive = await copySlot(slot);
  await confirm(naive, end, (end + 1n) as Lsn);
  const right = await copySlot(slot);
  await confirm(right, (end - 1n) as Lsn, end);

  expect(commits(await readSlot(right, afterCommits(rest))).map(({ commitLsn }) => commitLsn)).toEqual(all.slice(pair + 1).map(({ commitLsn }) => commitLsn));
  const afterNaive = commits(await readSlot(naive, afterCommits(rest - 1))).map(({ commitLsn }) => commitLsn);
  expect(afterNaive).toEqual(all.slice(pair + 2).map(({ commitLsn }) => commitLsn));
});

test('the buffers of the library are views of one that is reused: what is kept and not copied changes', async () => {
  const slot = `${here.slot}_buffers`;
  await createSlot(client, slot);
  await client.query(
    `INSERT INTO workflow_runs (id, tenant_id, app_id, workflow_id, type, triggered_from, version, graph, status, created_by_role, created_by)
     SELECT gen_random_uuid(), $1, $1, $1, 'workflow', 'app-run', n::text, repeat(n::text, 300), 'running', 'account', $1 FROM generate_series(1, 2000) AS n`, [TENANT]);
  const kept: { view: Buffer; copy: Buffer }[] = [];
  await readSlot(slot, afterCommits(1), undefined, (buffer) => kept.push({ view: buffer, copy: Buffer.from(buffer) }));
  expect(kept.length).toBeGreaterThan(2_000);
  expect(kept.filter(({ view, copy }) => !view.equals(copy)).length).toBeGreaterThan(0);
});

test('a re-insert may be logged before the delete it follows, so only the LSN of the commit orders a row', async () => {
  const slot = `${here.slot}_order`;
  const id = await insertRun(client);
  await createSlot(client, slot);
  const [first, second] = others as [pg.Client, pg.Client];
  await first.query('BEGIN');
  await first.query(`UPDATE workflow_runs SET status = 'stopped' WHERE id = $1`, [id]);
  // Its heap record is written at once; then it waits in the unique index for the first transaction to end.
  const { rows: [backend] } = await second.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const reinsert = insertRun(second, { id });
  await expect.poll(async () => (await client.query(`SELECT wait_event_type FROM pg_stat_activity WHERE pid = $1`, [backend!.pid])).rows[0].wait_event_type, { timeout: 20_000 }).toBe('Lock');
  await first.query('DELETE FROM workflow_runs WHERE id = $1', [id]);
  await first.query('COMMIT');
  await reinsert;

  const seen = await readSlot(slot, afterCommits(2));
  const of = (kind: string): Lsn => parseLsn(seen.find(({ message }) => message.kind === kind)!.lsn);
  expect(of('insert') < of('delete'), 'the insert has the lower LSN of its own').toBe(true);
  expect(seen.map(({ message }) => message.kind).filter((kind) => kind === 'insert' || kind === 'delete')).toEqual(['delete', 'insert']);
  const [deleted, inserted] = seen.flatMap(({ message }) => (message.kind === 'begin' ? [message.commitLsn] : []));
  expect(inserted! > deleted!).toBe(true);
});

test('rows of one COPY share one LSN, so nothing may be skipped by LSN', async () => {
  const { from } = await import('pg-copy-streams');
  const { pipeline } = await import('node:stream/promises');
  const slot = `${here.slot}_copy`;
  await createSlot(client, slot);
  const ids = Array.from({ length: 50 }, () => randomUUID());
  const target = client.query(from('COPY workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by) FROM STDIN'));
  await pipeline(ids.map((id) => [id, TENANT, id, id, id, 'web-app', 'account', id].join('\t') + '\n'), target);
  const seen = await readSlot(slot, afterCommits(1));
  expect(insertedIds(seen)).toEqual(ids);
  expect(new Set(seen.filter(({ message }) => message.kind === 'insert').map(({ lsn }) => lsn)).size).toBe(1);
});

test('a logical message comes before the changes after it, unless a savepoint lies between; a rolled-back one takes it away, a released one keeps it', async () => {
  const slot = `${here.slot}_marker`;
  const id = await insertRun(client);
  await createSlot(client, slot);
  const mark = (content: string): Promise<unknown> => client.query(`SELECT pg_logical_emit_message(true, 'dify-es.cleanup', $1)`, [content]);
  const touch = (): Promise<unknown> => client.query(`UPDATE workflow_runs SET status = status WHERE id = $1`, [id]);
  await inTransaction(client, async () => {
    await mark('kept');
    await touch();
  });
  await inTransaction(client, async () => {
    await client.query('SAVEPOINT a');
    await mark('rolled back');
    await client.query('ROLLBACK TO a');
    await touch();
  });
  await inTransaction(client, async () => {
    await client.query('SAVEPOINT a');
    await mark('released');
    await client.query('RELEASE a');
    await touch();
  });
  const seen = await readSlot(slot, afterCommits(3));
  const story = seen.flatMap(({ message }) => (message.kind === 'logical-message' ? [message.content.toString()] : message.kind === 'update' ? ['update'] : []));
  expect(story.slice(0, 3)).toEqual(['kept', 'update', 'update']);
  // A message is queued by the end of its record, a change by the beginning of its own: where they touch they tie, and
  // only within one subtransaction the order is kept. On PostgreSQL 15 this message has come after the update [measured].
  expect(story.slice(3).sort()).toEqual(['released', 'update']);
});

test('a second reader is told that the slot is in use', async () => {
  const slot = `${here.slot}_busy`;
  await createSlot(client, slot);
  await insertRun(client);
  await readSlot(slot, afterCommits(1), async () => {
    await expect(readSlot(slot, () => true)).rejects.toMatchObject({ code: '55006' });
  });
});

test('pinned session settings hold for replication connections as for ordinary ones, whatever the database says', async () => {
  for (const setting of [`DateStyle = 'SQL, DMY'`, `TimeZone = 'Asia/Tokyo'`, `bytea_output = 'escape'`, `extra_float_digits = -15`, `IntervalStyle = 'sql_standard'`]) await client.query(`ALTER DATABASE ${here.database} SET ${setting}`);
  const slot = `${here.slot}_settings`;
  await createSlot(client, slot);
  const id = await insertRun(client, { createdAt: '2025-03-04 05:06:07.000089' });
  await client.query(`UPDATE workflow_runs SET elapsed_time = 0.1::float8 + 0.2, finished_at = 'infinity' WHERE id = $1`, [id]);
  const seen = await readSlot(slot, afterCommits(2));
  const update = seen.find(({ message }) => message.kind === 'update')!.message as Extract<WalMessage, { kind: 'update' }>;
  const column = (name: string): string => String(valuesOf(update.tuple)[update.relation.shape.columns.indexOf(name)]);
  expect([column('created_at'), column('elapsed_time'), column('finished_at')]).toEqual(['2025-03-04 05:06:07.000089', '0.30000000000000004', 'infinity']);
  const ordinary = await connect(targetOf(here.env), { role: 'test' });
  const same = await ordinary.query({ text: 'SELECT created_at, elapsed_time, finished_at FROM workflow_runs WHERE id = $1', values: [id], rowMode: 'array', types: { getTypeParser: () => (text: string) => text } });
  await ordinary.end();
  expect(same.rows[0]).toEqual(['2025-03-04 05:06:07.000089', '0.30000000000000004', 'infinity']);
});
