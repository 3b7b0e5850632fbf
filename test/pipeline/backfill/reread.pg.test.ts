import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { RowRecord } from '../../../src/core/contracts.ts';
import { textsOf } from '../../support/cells.ts';
import { dropDifySchema, createDifySchema } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';
import { backfill, EVERYTHING, logRows, pinned, tableRows } from './harness.ts';
import { MemoryKafka } from './memory-kafka.ts';

/*
 * What other sessions do between the moment a chunk was read and the moment its transaction commits. The stand-in for
 * Kafka lets a test act exactly there: when records are sent they are in the log, and not yet read again.
 */
const here = isolate(import.meta.filename);
const TENANT = '00000000-0000-4000-8000-000000000001';
const OTHER = '00000000-0000-4000-8000-000000000002';
const ONLY_LOGS = { ...EVERYTHING, tables: ['workflow_app_logs'] } as const;
const id = (n: number): string => `10000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
let client: pg.Client;

beforeAll(async () => {
  client = await pinned(here)();
});
afterAll(() => client.end());
beforeEach(async () => {
  await dropDifySchema(client);
  await createDifySchema(client);
});

async function insert(from: number, to: number, createdFrom = 'web-app'): Promise<void> {
  await client.query(
    `INSERT INTO workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
     SELECT ('10000000-0000-4000-8000-' || lpad(g::text, 12, '0'))::uuid, $1, $1, $1, $1, $4, 'account', $1, timestamp '2026-08-01' + g * interval '1 second'
     FROM generate_series($2::int, $3::int) g`,
    [TENANT, from, to, createdFrom],
  );
  await client.query('ANALYZE workflow_app_logs');
}

/** Runs `acts`, one after each sending of records, so the second one happens during the re-read's own sending. */
function acting(...acts: (() => Promise<unknown>)[]): MemoryKafka {
  const kafka = new MemoryKafka();
  kafka.onSend = async () => void (await acts.shift()?.());
  return kafka;
}

/** Each record of one row as the log holds it, in order: its month, or `-` and the month for a tombstone. */
function history(kafka: MemoryKafka, n: number): string[] {
  const name = (record: RowRecord): string => (record.row === null ? '-' : '') + (record.row ? textsOf(record.row)['created_from'] : record.key.createdAt.slice(0, 7));
  return kafka.committed().filter((record) => record.key.id === id(n)).map(name);
}

async function expectEqual(kafka: MemoryKafka): Promise<void> {
  expect(logRows(kafka, 'workflow_app_logs')).toEqual(await tableRows(client, 'workflow_app_logs'));
}

describe('a row that changes between its chunk and the re-read', () => {
  test('is produced again behind its old value when it was updated', async () => {
    await insert(1, 5);
    const kafka = acting(() => client.query("UPDATE workflow_app_logs SET created_from = 'new' WHERE id = $1", [id(3)]));
    await backfill(here, kafka, { filter: ONLY_LOGS });
    expect(history(kafka, 3)).toEqual(['web-app', 'new']);
    expect(history(kafka, 2)).toEqual(['web-app']);
    await expectEqual(kafka);
  });

  test('is produced as often as it changes, until it rests', async () => {
    await insert(1, 3);
    const set = (value: string) => () => client.query('UPDATE workflow_app_logs SET created_from = $2 WHERE id = $1', [id(2), value]);
    const kafka = acting(set('b'), set('c'), set('d'));
    await backfill(here, kafka, { filter: ONLY_LOGS });
    expect(history(kafka, 2)).toEqual(['web-app', 'b', 'c', 'd']);
    await expectEqual(kafka);
  });

  test('gets a tombstone when it was deleted', async () => {
    await insert(1, 5);
    const kafka = acting(() => client.query('DELETE FROM workflow_app_logs WHERE id = $1', [id(3)]));
    await backfill(here, kafka, { filter: ONLY_LOGS });
    expect(history(kafka, 3)).toEqual(['web-app', '-2026-08']);
    await expectEqual(kafka);
  });

  test('stays when it was deleted and deletes are ignored', async () => {
    await insert(1, 5);
    const kafka = acting(() => client.query('DELETE FROM workflow_app_logs WHERE id = $1', [id(3)]));
    await backfill(here, kafka, { filter: ONLY_LOGS, deletePolicy: 'ignore' });
    expect(history(kafka, 3)).toEqual(['web-app']);
  });

  test('is produced after its tombstone when it came back before the tombstone was in the log', async () => {
    await insert(1, 5);
    const kafka = acting(
      () => client.query('DELETE FROM workflow_app_logs WHERE id = $1', [id(3)]),
      () => insert(3, 3, 'restored'),
    );
    await backfill(here, kafka, { filter: ONLY_LOGS });
    expect(history(kafka, 3)).toEqual(['web-app', '-2026-08', 'restored']);
    await expectEqual(kafka);
  });

  test('is produced anew when it was deleted and inserted again, even into the very place it had', async () => {
    await insert(1, 5);
    const kafka = acting(async () => {
      await client.query('DELETE FROM workflow_app_logs WHERE id = $1', [id(3)]);
      await client.query('VACUUM workflow_app_logs');
      await insert(3, 3, 'again');
      const { rows } = await client.query('SELECT ctid::text FROM workflow_app_logs WHERE id = $1', [id(3)]);
      expect(rows[0].ctid).toBe('(0,3)');
    });
    await backfill(here, kafka, { filter: ONLY_LOGS });
    expect(history(kafka, 3)).toEqual(['web-app', 'again']);
    await expectEqual(kafka);
  });

  test('is not hidden by another row that took its place', async () => {
    await insert(1, 5);
    const kafka = acting(async () => {
      await client.query('DELETE FROM workflow_app_logs WHERE id = $1', [id(3)]);
      await client.query('VACUUM workflow_app_logs');
      await insert(77, 77);
    });
    await backfill(here, kafka, { filter: ONLY_LOGS });
    expect(history(kafka, 3)).toEqual(['web-app', '-2026-08']);
    // It came after the barrier, so the stream brings it.
    expect(history(kafka, 77)).toEqual([]);
  });

  test.each(['apply', 'ignore'] as const)('leaves a tombstone under its old key when it moved to another tenant or month (DELETE_POLICY=%s)', async (deletePolicy) => {
    await insert(1, 5);
    const kafka = acting(
      () => client.query("UPDATE workflow_app_logs SET created_at = '2026-03-05', created_from = 'moved' WHERE id = $1", [id(3)]),
      () => client.query("UPDATE workflow_app_logs SET tenant_id = $2, created_from = 'twice' WHERE id = $1", [id(3), OTHER]),
    );
    await backfill(here, kafka, { filter: ONLY_LOGS, deletePolicy });
    expect(history(kafka, 3)).toEqual(['web-app', '-2026-08', 'moved', '-2026-03', 'twice']);
    await expectEqual(kafka);
  });

  test('leaves a tombstone under its old key when it moved out of the filter of the run', async () => {
    await insert(1, 400);
    const filter = { ...ONLY_LOGS, tenantIds: [TENANT] };
    const kafka = acting(() => client.query('UPDATE workflow_app_logs SET tenant_id = $2 WHERE id = $1', [id(3), OTHER]));
    await backfill(here, kafka, { filter });
    expect(history(kafka, 3)).toEqual(['web-app', '-2026-08', 'web-app']);
    await expectEqual(kafka);
  });

  test('of many rows at once, more than one look-up takes, all are settled', async () => {
    await insert(1, 3000);
    const kafka = acting(
      () => client.query("UPDATE workflow_app_logs SET created_from = 'b'"),
      () => client.query("DELETE FROM workflow_app_logs WHERE created_at < '2026-08-01 00:20:00'"),
    );
    await backfill(here, kafka, { filter: ONLY_LOGS, batchRows: 10_000 });
    await expectEqual(kafka);
  });
});

describe('a transaction that fails', () => {
  test('leaves nothing behind, and the chunk is read again', async () => {
    await insert(1, 5);
    const kafka = acting(() => Promise.reject(new Error('the broker is gone')));
    await backfill(here, kafka, { filter: ONLY_LOGS });
    expect([kafka.aborts, kafka.commits, kafka.committed().length]).toEqual([1, 1, 5]);
    await expectEqual(kafka);
  });

  test('is not needed when only the reading connection broke: the chunk is read again on another one', async () => {
    await insert(1, 5);
    const kafka = acting(() => client.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dify-es migrate' AND pid <> pg_backend_pid() AND datname = current_database()"));
    await backfill(here, kafka, { filter: ONLY_LOGS });
    expect(kafka.committed().length).toBe(5);
    await expectEqual(kafka);
  });
});

describe('a table that is rewritten in mid-run', () => {
  const batches = { filter: ONLY_LOGS, batchRows: 500 } as const;

  test('by VACUUM FULL is read again from its beginning, and its open chunk is never committed', async () => {
    await insert(1, 5000);
    await client.query('DELETE FROM workflow_app_logs WHERE created_at < $1', ['2026-08-01 00:10:00']);
    let sends = 0;
    const kafka = new MemoryKafka();
    kafka.onSend = async () => {
      if (++sends === 3) await client.query('VACUUM FULL workflow_app_logs');
    };
    const result = await backfill(here, kafka, batches);
    expect(result.tables).toMatchObject([{ scan: 2, done: true }]);
    expect(kafka.aborts).toBe(1);
    expect(kafka.entries.filter(({ state }) => state === 'aborted').length).toBeGreaterThan(0);
    await expectEqual(kafka);
  });

  test('by VACUUM FULL between chunks, or with several workers, is noticed too', async () => {
    await insert(1, 20_000);
    const kafka = new MemoryKafka();
    let rewritten = false;
    kafka.onCommit = async () => {
      if (kafka.commits < 4 || rewritten) return;
      // Once: another worker may be at the same count.
      rewritten = true;
      await client.query('VACUUM FULL workflow_app_logs');
    };
    const result = await backfill(here, kafka, { ...batches, workers: 3 });
    expect(result.tables).toMatchObject([{ scan: 2, done: true, rows: 20_000 }]);
    await expectEqual(kafka);
  });

  test('by TRUNCATE gets no tombstones: its history outlives it', async () => {
    await insert(1, 5000);
    let sends = 0;
    const kafka = new MemoryKafka();
    kafka.onSend = async () => {
      if (++sends === 3) await client.query('TRUNCATE workflow_app_logs');
    };
    const result = await backfill(here, kafka, batches);
    expect(result.state).toBe('done');
    expect(kafka.committed().filter((record) => record.row === null)).toEqual([]);
    expect(kafka.committed().length).toBeGreaterThan(900);
  });

  test('by TRUNCATE after rows were found changed gets none either', async () => {
    await insert(1, 100);
    const kafka = acting(
      () => client.query("UPDATE workflow_app_logs SET created_from = 'b'"),
      () => client.query('TRUNCATE workflow_app_logs'),
    );
    await backfill(here, kafka, batches);
    expect([kafka.aborts, kafka.entries.some(({ record }) => record.row === null)]).toEqual([1, false]);
  });

  test('by a new column is described anew, and no row goes without it', async () => {
    await insert(1, 3000);
    let sends = 0;
    const kafka = new MemoryKafka();
    kafka.onSend = async () => {
      if (++sends === 2) await client.query("ALTER TABLE workflow_app_logs ADD COLUMN added text DEFAULT 'x'");
    };
    const result = await backfill(here, kafka, batches);
    expect(result.tables).toMatchObject([{ scan: 1, done: true }]);
    expect(kafka.committed().filter((record) => record.row && !record.row.shape.columns.includes('added')).length).toBeLessThanOrEqual(500);
    expect(kafka.committed().at(-1)?.row?.shape.columns).toContain('added');
    expect(logRows(kafka, 'workflow_app_logs').size).toBe(3000);
  });

  test('by dropping a column goes on with the columns that are left', async () => {
    await insert(1, 3000);
    await client.query('ALTER TABLE workflow_app_logs ADD COLUMN old text');
    let commits = 0;
    const kafka = new MemoryKafka();
    kafka.onCommit = async () => {
      if (++commits === 2) await client.query('ALTER TABLE workflow_app_logs DROP COLUMN old');
    };
    await backfill(here, kafka, batches);
    expect(kafka.committed().at(-1)?.row?.shape.columns).not.toContain('old');
    expect(logRows(kafka, 'workflow_app_logs').size).toBe(3000);
  });

  test('by dropping it ends its part of the run', async () => {
    await insert(1, 3000);
    const kafka = new MemoryKafka();
    kafka.onCommit = async () => {
      if (kafka.commits === 1) await client.query('DROP TABLE workflow_app_logs');
    };
    expect((await backfill(here, kafka, batches)).state).toBe('done');
    expect(kafka.committed().some((record) => record.row === null)).toBe(false);
  });
});
