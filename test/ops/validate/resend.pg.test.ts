import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { RowRecord } from '../../../src/core/contracts.ts';
import { splitVersion } from '../../../src/core/row-version.ts';
import { Resend, type ResendOptions } from '../../../src/ops/validate/resend.ts';
import { logRows, pinned, tableRows } from '../../pipeline/backfill/harness.ts';
import { MemoryKafka } from '../../pipeline/backfill/memory-kafka.ts';
import { textsOf } from '../../support/cells.ts';
import { createDifySchema, dropDifySchema } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';

/** What other sessions do while a repair is on its way into the log. */
const here = isolate(import.meta.filename);
const TENANT = '00000000-0000-4000-8000-000000000001';
const TABLE = 'workflow_app_logs';
const id = (n: number): string => `10000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const ids = (count: number): string[] => Array.from({ length: count }, (_, n) => id(n + 1));
let client: pg.Client;

beforeAll(async () => {
  client = await pinned(here)();
});
afterAll(() => client.end());
beforeEach(async () => {
  await dropDifySchema(client);
  await createDifySchema(client);
});

async function insert(...numbers: number[]): Promise<void> {
  for (const n of numbers) {
    await client.query(
      `INSERT INTO workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
       VALUES ($1, $2, $2, $2, $2, 'web-app', 'account', $2, timestamp '2026-08-01' + $3 * interval '1 second')`, [id(n), TENANT, n]);
  }
}

async function resend(kafka: MemoryKafka, use: (port: Resend) => Promise<unknown>, more: Partial<ResendOptions> = {}): Promise<void> {
  const port = new Resend({
    connect: pinned(here), schema: 'public', publisher: await kafka.openPublisher('repair'), epoch: () => 3, deletePolicy: 'apply',
    barrierTimeoutMs: 10_000, signal: new AbortController().signal, ...more,
  });
  await use(port).finally(() => port.close());
}

/** Runs `acts`, one after each sending of records: they are in the log then, and not looked at again yet. */
function acting(...acts: (() => Promise<unknown>)[]): MemoryKafka {
  const kafka = new MemoryKafka();
  kafka.onSend = async () => void (await acts.shift()?.());
  return kafka;
}

const history = (kafka: MemoryKafka, n: number): (string | null)[] => kafka.committed().filter(({ key }) => key.id === id(n)).map(({ row }) => (row ? textsOf(row)['created_from']! : null));
const key = (n: number): RowRecord['key'] => ({ tenantId: TENANT, createdAt: `2026-08-01 00:00:0${n}`, id: id(n) });

describe('rows that are sent again', () => {
  it('are whole, as they are now, with the version below a barrier taken now; those that are gone are none', async () => {
    await insert(1, 2, 3);
    const { rows: [before] } = await client.query<{ lsn: string }>(`SELECT (pg_current_wal_insert_lsn() - '0/0')::text AS lsn`);
    const kafka = new MemoryKafka();
    let count: unknown;
    await resend(kafka, async (port) => (count = await port.publishRows(TABLE, [id(1), id(3), id(9)])));
    expect(count).toBe(2);
    expect(logRows(kafka, TABLE)).toEqual(await tableRows(client, TABLE, `id <> '${id(2)}'`));
    for (const { version, op } of kafka.committed()) {
      expect(op).toBe('read');
      expect(splitVersion(version).epoch).toBe(3);
      expect(splitVersion(version).position).toBeGreaterThanOrEqual(BigInt(before!.lsn) - 1n);
    }
  });

  it('end with the new value when they change on their way, and with a tombstone when they go', async () => {
    await insert(1, 2);
    const kafka = acting(async () => {
      await client.query(`UPDATE ${TABLE} SET created_from = 'new' WHERE id = $1`, [id(1)]);
      await client.query(`DELETE FROM ${TABLE} WHERE id = $1`, [id(2)]);
    });
    await resend(kafka, (port) => port.publishRows(TABLE, ids(2)));
    expect(history(kafka, 1)).toEqual(['web-app', 'new']);
    expect(history(kafka, 2)).toEqual(['web-app', null]);
  });

  it('leave no tombstone under DELETE_POLICY=ignore', async () => {
    await insert(1);
    const kafka = acting(() => client.query(`DELETE FROM ${TABLE}`));
    await resend(kafka, (port) => port.publishRows(TABLE, [id(1)]), { deletePolicy: 'ignore' });
    expect(history(kafka, 1)).toEqual(['web-app']);
  });

  it('are not published at all when the table is truncated meanwhile: history must not become tombstones', async () => {
    await insert(1, 2);
    const kafka = acting(() => client.query(`TRUNCATE ${TABLE}`));
    await expect(resend(kafka, (port) => port.publishRows(TABLE, ids(2)))).rejects.toMatchObject({ code: 'TABLE_UNSUITABLE' });
    expect(kafka.committed()).toEqual([]);
  });

  it('are sent in transactions of bounded size', async () => {
    await insert(...Array.from({ length: 450 }, (_, n) => n + 1));
    const kafka = new MemoryKafka();
    await resend(kafka, (port) => port.publishRows(TABLE, ids(450)));
    expect(kafka.commits).toBe(3);
    expect(logRows(kafka, TABLE).size).toBe(450);
  });
});

describe('tombstones for surplus documents', () => {
  it('are the last word on a key that has no row', async () => {
    const kafka = new MemoryKafka();
    await resend(kafka, (port) => port.publishTombstones(TABLE, [key(1)]));
    expect(kafka.committed()).toMatchObject([{ key: key(1), op: 'delete', row: null }]);
  });

  it('are followed by the row where it has come back, before or after they were sent', async () => {
    await insert(1);
    const kafka = acting(() => insert(2));
    await resend(kafka, (port) => port.publishTombstones(TABLE, [key(1), key(2)]));
    expect(history(kafka, 1)).toEqual([null, 'web-app']);
    expect(history(kafka, 2)).toEqual([null, 'web-app']);
    expect(logRows(kafka, TABLE)).toEqual(await tableRows(client, TABLE));
  });

  it('of a document in a wrong index leave the row\'s own key with its value', async () => {
    await insert(1);
    const kafka = new MemoryKafka();
    const elsewhere = { ...key(1), createdAt: '2026-01-01 00:00:00' };
    await resend(kafka, (port) => port.publishTombstones(TABLE, [elsewhere]));
    expect(kafka.committed()[0]).toMatchObject({ key: elsewhere, row: null });
    expect([...kafka.compacted().values()].map((record) => record.key)).toEqual([key(1)]);
  });
});
