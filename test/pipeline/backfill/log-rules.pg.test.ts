import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Publisher, RowRecord } from '../../../src/core/contracts.ts';
import { parseLsn } from '../../../src/core/lsn.ts';
import { versionOfCommit } from '../../../src/core/row-version.ts';
import { cellOf, cellsOf, valuesOf } from '../../support/cells.ts';
import { createDatabase } from '../../support/server-cleanup.ts';
import { createDifySchema, dropDifySchema } from '../../support/dify/schema.ts';
import { namesFor, ownServers, type Isolation } from '../../support/servers.ts';
import { backfill, EVERYTHING, logRows, pinned, tableRows, writersOf } from './harness.ts';
import { MemoryKafka } from './memory-kafka.ts';

/*
 * Rules 2 and 3 of docs/02-ordering.md, each with and without: a change is committed between a chunk and its place in the
 * log. With the rule the log ends with the newest row, without it with the old one. Rules 1 and 4 are in
 * test/pipeline/kafka/log-rules.kafka.test.ts. On a PostgreSQL of its own, for a commit that waits for a standby that nobody has.
 */
const servers = ownServers();
const TABLE = 'workflow_app_logs';
const TENANT = '00000000-0000-4000-8000-000000000001';
const OTHER = '00000000-0000-4000-8000-000000000002';
const ID = '10000000-0000-4000-8000-000000000003';
let here: Isolation;
let client: pg.Client;

beforeAll(async () => {
  here = namesFor(import.meta.filename, 'own', (await servers.postgres()).env);
  await createDatabase(here.env);
  client = await pinned(here)();
});
afterAll(() => client?.end());
beforeEach(async () => {
  await dropDifySchema(client);
  await createDifySchema(client);
  await client.query(
    `INSERT INTO ${TABLE} (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
     SELECT ('10000000-0000-4000-8000-' || lpad(g::text, 12, '0'))::uuid, $1, $1, $1, $1, 'old', 'account', $1, timestamp '2026-08-01 00:00:00' FROM generate_series(1, 5) g`, [TENANT]);
});

/** What the stream makes of a change of the row that a chunk holds as `old`; null: deleted. */
async function streamed(old: RowRecord, change: Readonly<Record<string, string>> | null): Promise<RowRecord[]> {
  const lsn = parseLsn((await client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')).rows[0]!.lsn);
  const changed = { ...old, version: versionOfCommit(1, lsn), lsn };
  const tombstone: RowRecord = { ...changed, op: 'delete', row: null };
  if (!change) return [tombstone];
  const { shape, cells } = old.row!;
  const changedTo = valuesOf(cells).map((cell, at) => (change[shape.columns[at]!] === undefined ? cell : Buffer.from(change[shape.columns[at]!]!)));
  const row = { shape, cells: cellsOf(changedTo) };
  const record: RowRecord = { ...changed, op: 'update', row, key: { ...old.key, tenantId: change['tenant_id'] ?? old.key.tenantId } };
  return record.key.tenantId === old.key.tenantId ? [record] : [tombstone, record];
}

/** The first time the row is about to be sent. */
function beforeItIsSent(kafka: MemoryKafka, act: (old: RowRecord) => Promise<void>): void {
  kafka.beforeSend = async (records) => {
    const old = records.find(({ key, row }) => key.id === ID && row !== null);
    if (!old) return;
    kafka.beforeSend = () => undefined;
    await act(old);
  };
}

/** Only the chunk itself reaches the log: what the re-read finds does not. */
const withoutReread = (kafka: MemoryKafka) => async (writer: string): Promise<Publisher> => {
  const publisher = await kafka.openPublisher(writer);
  return {
    ...publisher,
    begin: async () => {
      const transaction = await publisher.begin();
      let sent = 0;
      return { ...transaction, send: async (records) => (sent++ === 0 ? transaction.send(records) : undefined) };
    },
  };
};

const ends = (kafka: MemoryKafka): Record<string, string | null> | undefined => logRows(kafka, TABLE).get(ID);
const holds = async (): Promise<Record<string, string | null> | undefined> => (await tableRows(client, TABLE)).get(ID);

describe('rule 3: a chunk is read again after it is in the log', () => {
  const CHANGES = [
    ['an update', `UPDATE ${TABLE} SET created_from = 'new' WHERE id = '${ID}'`, { created_from: 'new' }],
    ['a delete', `DELETE FROM ${TABLE} WHERE id = '${ID}'`, null],
    ['a move to another tenant', `UPDATE ${TABLE} SET tenant_id = '${OTHER}' WHERE id = '${ID}'`, { tenant_id: OTHER }],
  ] as const;

  async function run(sql: string, change: Readonly<Record<string, string>> | null, rule: boolean): Promise<MemoryKafka> {
    const kafka = new MemoryKafka();
    beforeItIsSent(kafka, async (old) => {
      await client.query(sql);
      for (const record of await streamed(old, change)) kafka.append(record);
    });
    await backfill(here, kafka, { filter: { ...EVERYTHING, tables: [TABLE] }, ...(rule ? {} : { writers: { ...writersOf(kafka), open: withoutReread(kafka) } }) });
    return kafka;
  }

  test.each(CHANGES)('with it the log ends after %s as the table is', async (_, sql, change) => {
    expect(ends(await run(sql, change, true))).toEqual(await holds());
  });

  test.each(CHANGES)('without it the log ends after %s with the row as it was', async (_, sql, change) => {
    const kafka = await run(sql, change, false);
    const old = [...kafka.compacted().values()].find(({ key }) => key.id === ID && key.tenantId === TENANT);
    expect(cellOf(old!.row!, 'created_from')?.toString()).toBe('old');
    expect((await holds())?.['created_from'] === 'old' && (await holds())?.['tenant_id'] === TENANT, 'and the table is otherwise').toBe(false);
  });
});

describe('rule 2: the stream publishes what other sessions can see', () => {
  async function standbys(value: string): Promise<void> {
    await client.query(`ALTER SYSTEM SET synchronous_standby_names = '${value}'`);
    await client.query('SELECT pg_reload_conf()');
    await expect.poll(async () => (await client.query('SHOW synchronous_standby_names')).rows[0].synchronous_standby_names, { timeout: 20_000 }).toBe(value);
  }

  const pidOf = async (session: pg.Client): Promise<number> => (await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid;
  const waitsForStandby = async (pid: number): Promise<boolean> => (await client.query('SELECT wait_event FROM pg_stat_activity WHERE pid = $1', [pid])).rows[0].wait_event === 'SyncRep';

  /**
   * Returns when a commit waits, and what ends with it. SHOW is not enough: a commit looks at what the checkpointer has
   * put into shared memory, and that reads the setting when it comes to it (syncrep.c, SyncRepUpdateSyncStandbysDefined).
   */
  async function untilCommitsWait(): Promise<{ readonly ended: Promise<void> }> {
    const probe = await pinned(here)();
    const pid = await pidOf(probe);
    for (;;) {
      let passed = false;
      const commit = probe.query("SELECT pg_logical_emit_message(true, 'probe', '')").then(() => void (passed = true));
      await expect.poll(async () => passed || (await waitsForStandby(pid)), { timeout: 20_000, interval: 5 }).toBe(true);
      if (!passed) return { ended: commit.then(() => probe.end()) };
    }
  }

  async function run(rule: boolean): Promise<MemoryKafka> {
    const kafka = new MemoryKafka();
    const writer = await pinned(here)();
    const pid = await pidOf(writer);
    let probe: Awaited<ReturnType<typeof untilCommitsWait>> | undefined;
    let visible: Promise<RowRecord[]> | undefined;
    let committed: Promise<unknown> | undefined;
    beforeItIsSent(kafka, async (old) => {
      await standbys('nobody');
      probe = await untilCommitsWait();
      committed = writer.query(`UPDATE ${TABLE} SET created_from = 'new' WHERE id = '${ID}'`);
      await expect.poll(() => waitsForStandby(pid), { timeout: 20_000 }).toBe(true);
      expect((await holds())?.['created_from'], 'nobody can see it').toBe('old');
      const records = await streamed(old, { created_from: 'new' });
      if (rule) visible = committed.then(() => records);
      else for (const record of records) kafka.append(record);
    });
    await backfill(here, kafka, { filter: { ...EVERYTHING, tables: [TABLE] } });
    await standbys('');
    for (const record of (await visible) ?? []) kafka.append(record);
    await committed;
    await probe?.ended;
    await writer.end();
    return kafka;
  }

  test('with it a commit that waits for a standby comes behind the chunk that could not see it', async () => {
    expect(ends(await run(true))?.['created_from']).toBe('new');
    expect((await holds())?.['created_from']).toBe('new');
  });

  test('without it the log ends with the row as it was', async () => {
    expect(ends(await run(false))?.['created_from']).toBe('old');
    await expect.poll(async () => (await holds())?.['created_from']).toBe('new');
  });
});
