import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { LoggedTransaction, Relation } from '../../../src/core/contracts.ts';
import { DifyEsError } from '../../../src/core/errors.ts';
import { parseLsn } from '../../../src/core/lsn.ts';
import { splitVersion } from '../../../src/core/row-version.ts';
import type { EpochDecision } from '../../../src/pipeline/capture/epoch.ts';
import { createSlot, dropSlot, inspectSlot } from '../../../src/pipeline/capture/slot.ts';
import { cellOf, valuesOf } from '../../support/cells.ts';
import { isolate } from '../../support/servers.ts';
import { inTransaction, insertRun, longText, MemoryKafka, openSource, OTHER_TENANT, setIdentity, startStream, tableAsText, topicAsText, type RunningStream, type StreamOverrides } from './harness.ts';

const here = isolate(import.meta.filename);
let client: pg.Client;
let kafka: MemoryKafka;
let stream: RunningStream | undefined;

beforeAll(async () => {
  client = await openSource(here, { slot: false });
});
afterAll(() => client.end());
beforeEach(async () => {
  await client.query('TRUNCATE workflow_runs, workflow_app_logs, workflow_node_executions, workflow_node_execution_offload');
  await createSlot(client, here.slot);
  kafka = new MemoryKafka();
});
afterEach(async () => {
  await stream?.loop.stop();
  stream = undefined;
  await expect.poll(async () => (await inspectSlot(client, here.slot))?.activePid, { timeout: 20_000 }).toBeNull();
  await dropSlot(client, here.slot);
});

const start = (overrides: StreamOverrides = {}): RunningStream => (stream = startStream(here, kafka, overrides));
/** Each change a batch of its own: of several changes of a row in one batch the last alone is published. */
const ONE_BY_ONE: StreamOverrides = { options: { batch: { maxChanges: 1, maxBytes: 1 << 20, maxDelayMs: 5 } } };
const update = (id: string, what: string): Promise<unknown> => client.query(`UPDATE workflow_runs SET ${what} WHERE id = $1`, [id]);
const operations = (): string[] => kafka.records.map(({ op }) => op);

async function expectEqual(): Promise<void> {
  expect(topicAsText(kafka, 'workflow_runs')).toEqual(await tableAsText(client, 'workflow_runs'));
}

test('inserts, updates and deletes arrive as whole rows, with the commit LSN as version and in the order of the log', async () => {
  const running = start(ONE_BY_ONE);
  const graph = longText();
  const kept = await insertRun(client, { graph, inputs: 'naïve – 漢字 🦉' });
  const deleted = await insertRun(client, { graph });
  await inTransaction(client, async () => {
    await update(kept, `status = 'succeeded'`);
    await update(deleted, `status = 'failed'`);
  });
  await client.query('DELETE FROM workflow_runs WHERE id = $1', [deleted]);
  await running.drained(client);
  await expectEqual();
  expect(operations()).toEqual(['insert', 'insert', 'update', 'update', 'delete']);
  expect(kafka.records[2]!.version).toBe(kafka.records[3]!.version);
  for (const { version, lsn } of kafka.records) expect(splitVersion(version)).toEqual({ epoch: 1, position: lsn });
  expect(kafka.records.every(({ version }, i) => i === 0 || version >= kafka.records[i - 1]!.version)).toBe(true);
});

describe('unchanged TOAST is filled', () => {
  const graph = longText();

  test('from the old tuple under REPLICA IDENTITY FULL', async () => {
    await setIdentity(client, 'workflow_runs', 'full');
    const id = await insertRun(client, { graph });
    await start({ cacheBytes: 0 }).drained(client);
    await update(id, `status = 'succeeded'`);
    await stream!.drained(client);
    await setIdentity(client, 'workflow_runs', 'index');
    await expectEqual();
  });

  test('from the rows just seen: nothing is asked of the table', async () => {
    const running = start(ONE_BY_ONE);
    const id = await insertRun(client, { graph });
    await running.drained(client);
    // Were the table asked, the answer would be this newer text.
    await inTransaction(client, async () => {
      await update(id, `status = 'succeeded'`);
      await update(id, `graph = 'newer'`);
    });
    await running.drained(client);
    const graphs = kafka.records.map(({ row }) => cellOf(row!, 'graph')!.toString());
    expect(graphs).toEqual([graph, graph, 'newer']);
  });

  test('by a SELECT, also where the row has moved to another tenant since', async () => {
    const id = await insertRun(client, { graph });
    await update(id, `status = 'succeeded'`);
    await update(id, `tenant_id = '${OTHER_TENANT}'`);
    await start({ cacheBytes: 0 }).drained(client);
    await expectEqual();
    expect(kafka.records.filter(({ row }) => row !== null).every(({ row }) => row!.cells.length === 20)).toBe(true);
  });

  test.each([{}, ONE_BY_ONE])('of a row that has another id since from that row, also where a new one took the former id', async (how) => {
    const id = await insertRun(client, { graph });
    await dropAndCreateSlot();
    await update(id, `status = 'succeeded'`);
    await update(id, 'id = gen_random_uuid()');
    await insertRun(client, { id, graph: longText() });
    await start(how).drained(client);
    await expectEqual();
  });

  test('by answers no larger than allowed, each row whole and in order', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 40; i++) ids.push(await insertRun(client, { graph: longText(50_000) }));
    await dropAndCreateSlot();
    await client.query(`UPDATE workflow_runs SET status = 'succeeded'`);
    await start({ cacheBytes: 0, options: { fetchBytes: 200_000 } }).drained(client);
    await expectEqual();
    expect(kafka.records.map(({ key }) => key.id)).toEqual(ids);
    expect(kafka.largestSend).toBeLessThan(5 * 51_000);
  });

  // The second ends the session: a reader that begins anew knows no more than one after kill -9, and what the slot says.
  test.each([['a failure of one of them', new Error('Kafka has ended the transaction')], ['the end of the session between two of them', new DifyEsError('PG_UNREACHABLE', 'told to be lost')]])(
    'in several Kafka transactions where one would be open for too long, and from the beginning after %s', async (_, error) => {
    const ids: string[] = [];
    for (let i = 0; i < 40; i++) ids.push(await insertRun(client, { graph: longText(50_000) }));
    await dropAndCreateSlot();
    await client.query(`UPDATE workflow_runs SET status = 'succeeded'`);
    let commits = 0;
    kafka.beforeCommit = () => {
      if (++commits === 3) throw error;
    };
    await start({ cacheBytes: 0, options: { fetchBytes: 200_000, transactionMs: 0 } }).drained(client);
    await expectEqual();
    expect(kafka.batches.length).toBeGreaterThan(5);
    // two of them were committed before the failure
    expect(kafka.records.map(({ key }) => key.id).slice(kafka.batches[0]! + kafka.batches[1]!)).toEqual(ids);
  });

  test('in a Kafka transaction for each answer, once Kafka has ended one that had several', async () => {
    for (let i = 0; i < 40; i++) await insertRun(client, { graph: longText(50_000) });
    await dropAndCreateSlot();
    await client.query(`UPDATE workflow_runs SET status = 'succeeded'`);
    kafka.beforeCommit = (records) => {
      if (records.length > 5) throw new Error('Kafka has ended the transaction');
    };
    await start({ cacheBytes: 0, options: { fetchBytes: 200_000 } }).drained(client);
    await expectEqual();
  });

  test('not at all for a row deleted since: its delete follows', async () => {
    const id = await insertRun(client, { graph });
    await dropAndCreateSlot();
    await update(id, `status = 'succeeded'`);
    await client.query('DELETE FROM workflow_runs WHERE id = $1', [id]);
    await start().drained(client);
    expect(operations()).toEqual(['delete']);
    expect(kafka.letters).toEqual([]);
  });

  test('not at all for a row truncated since: its last change is parked, and not confirmed before that', async () => {
    const id = await insertRun(client, { graph });
    await dropAndCreateSlot();
    await update(id, `status = 'succeeded'`);
    const { rows: [row] } = await client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
    for (let i = 0; i < 10; i++) await insertRun(client, { tenant: OTHER_TENANT });
    await client.query('TRUNCATE workflow_runs');
    let parkedBefore = -1;
    const running = start({
      options: { batch: { maxChanges: 2, maxBytes: 1 << 20, maxDelayMs: 5 } },
      hooks: { onTruncate: async () => void (parkedBefore = kafka.letters.length), onProgress: ({ confirmedLsn }) => expect(kafka.letters.length > 0 || confirmedLsn! < parseLsn(row!.lsn)).toBe(true) },
    });
    await running.drained(client);
    expect(kafka.letters).toMatchObject([{ cause: 'row-gone', key: { id } }]);
    expect(parkedBefore).toBe(1);
  });

  test('not at all for a row that nothing in the log took away: it is parked once the log has passed', async () => {
    const id = await insertRun(client, { graph });
    await dropAndCreateSlot();
    await update(id, `status = 'succeeded'`);
    // Out of the publication for a moment, as by hand: this delete never comes.
    await client.query(`ALTER PUBLICATION ${here.publication} SET (publish = 'insert, update')`);
    await client.query('DELETE FROM workflow_runs WHERE id = $1', [id]);
    await client.query(`ALTER PUBLICATION ${here.publication} SET (publish = 'insert, update, delete, truncate')`);
    await start().drained(client);
    expect(kafka.letters).toMatchObject([{ cause: 'row-gone', key: { id } }]);
  });

  test('not at all for a row deleted since, where deletes are ignored: it is parked', async () => {
    const id = await insertRun(client, { graph });
    await dropAndCreateSlot();
    await update(id, `status = 'succeeded'`);
    await client.query('DELETE FROM workflow_runs WHERE id = $1', [id]);
    await start({ options: { deletePolicy: 'ignore' } }).drained(client);
    expect(kafka.records).toEqual([]);
    expect(kafka.letters).toMatchObject([{ cause: 'row-gone', key: { id } }]);
  });

  test.each([
    ['dropped', ['ALTER TABLE workflow_runs DROP COLUMN extra'], undefined],
    ['renamed', ['ALTER TABLE workflow_runs RENAME COLUMN extra TO other'], undefined],
    ['dropped and added again', ['ALTER TABLE workflow_runs DROP COLUMN extra', `ALTER TABLE workflow_runs ADD COLUMN extra text DEFAULT 'another'`], 'another'],
  ])('as the table has it now, where a column was %s after the change', async (_, statements, extra) => {
    await client.query('ALTER TABLE workflow_runs ADD COLUMN extra text');
    const id = await insertRun(client, { graph });
    await update(id, `extra = '${longText()}'`);
    await dropAndCreateSlot();
    await update(id, `status = 'succeeded'`);
    for (const statement of statements) await client.query(statement);
    await start({ cacheBytes: 0 }).drained(client);
    const { shape, cells } = kafka.records[0]!.row!;
    const row = Object.fromEntries(shape.columns.map((column, i) => [column, valuesOf(cells)[i]?.toString()]));
    expect([row['graph'], row['status'], row['extra'], shape.columns.includes('extra')]).toEqual([graph, 'succeeded', extra, extra !== undefined]);
    expect(cells).toHaveLength(shape.columns.length);
    await client.query('ALTER TABLE workflow_runs DROP COLUMN IF EXISTS extra, DROP COLUMN IF EXISTS other');
  });

  async function dropAndCreateSlot(): Promise<void> {
    await dropSlot(client, here.slot);
    await createSlot(client, here.slot);
  }
});

test('a row that changes tenant, month or id is a tombstone under the old key and then a value under the new one', async () => {
  const running = start(ONE_BY_ONE);
  const id = await insertRun(client, { graph: longText() });
  await update(id, `tenant_id = '${OTHER_TENANT}'`);
  await update(id, `created_at = '2025-11-30 23:59:59.999999'`);
  const moved = randomUUID();
  await update(id, `id = '${moved}'`);
  await running.drained(client);
  expect(operations()).toEqual(['insert', 'delete', 'update', 'delete', 'update', 'delete', 'update']);
  await expectEqual();
});

test('an announced clean-up deletes nothing in Kafka; a pretended one does', async () => {
  const running = start({ parts: { isAnnouncedCleanup: async (runId) => runId === 'run-1' } });
  const [archived, pretended] = [await insertRun(client), await insertRun(client)];
  for (const [id, runId] of [[archived, 'run-1'], [pretended, 'run-2']] as const) {
    await inTransaction(client, async () => {
      await client.query(`SELECT pg_logical_emit_message(true, 'dify-es.cleanup', $1)`, [runId]);
      await client.query('DELETE FROM workflow_runs WHERE id = $1', [id]);
    });
  }
  await running.drained(client);
  expect(kafka.records.filter(({ op }) => op === 'delete').map(({ key }) => key.id)).toEqual([pretended]);
});

test('what is rolled back, whole or to a savepoint, never arrives', async () => {
  const running = start();
  const kept = await inTransaction(client, async () => {
    await client.query('SAVEPOINT a');
    await insertRun(client);
    await client.query('ROLLBACK TO a');
    return insertRun(client);
  });
  await inTransaction(client, async () => {
    await insertRun(client);
    throw new Error('rolled back');
  }).catch(() => undefined);
  await running.drained(client);
  expect(kafka.records.map(({ key }) => key.id)).toEqual([kept]);
});

test('a truncate is told once everything before it is in Kafka, and what follows it waits', async () => {
  const told: { tables: string[]; recordsBefore: number; xid: number }[] = [];
  const onTruncate = async (relations: readonly Relation[], { xid }: LoggedTransaction): Promise<void> => {
    told.push({ tables: relations.map(({ shape }) => shape.table), recordsBefore: kafka.records.length, xid });
  };
  const running = start({ hooks: { onTruncate } });
  await inTransaction(client, async () => {
    await insertRun(client);
    await client.query('TRUNCATE workflow_runs, workflow_app_logs');
    await insertRun(client);
  });
  await running.drained(client);
  expect(told).toMatchObject([{ tables: expect.arrayContaining(['workflow_runs', 'workflow_app_logs']), recordsBefore: 1 }]);
  expect(operations()).toEqual(['insert', 'insert']);
});

test('a changed definition is told before the first row that has it', async () => {
  const told: { columns: readonly string[]; recordsBefore: number }[] = [];
  const running = start({ hooks: { onRelation: async ({ shape }) => void told.push({ columns: shape.columns, recordsBefore: kafka.records.length }) } });
  await insertRun(client);
  await running.drained(client);
  await client.query(`ALTER TABLE workflow_runs ADD COLUMN extra text DEFAULT 'x'`);
  await insertRun(client);
  await running.drained(client);
  expect(told.map(({ columns, recordsBefore }) => [columns.includes('extra'), recordsBefore])).toEqual([[false, 0], [true, 1]]);
  expect(kafka.records.map(({ row }) => row!.shape.columns.includes('extra'))).toEqual([false, true]);
  await client.query('ALTER TABLE workflow_runs DROP COLUMN extra');
});

test('the slot of silent tables moves on with the rest of the server', async () => {
  await client.query('CREATE TABLE IF NOT EXISTS elsewhere (n int)');
  const running = start();
  await insertRun(client);
  await running.drained(client);
  const before = (await inspectSlot(client, here.slot))!.confirmedFlushLsn!;
  await client.query('INSERT INTO elsewhere SELECT generate_series(1, 1000)');
  await running.drained(client);
  await expect.poll(async () => (await inspectSlot(client, here.slot))!.confirmedFlushLsn! > before, { timeout: 20_000 }).toBe(true);
  expect(kafka.records).toHaveLength(1);
});

test('a transaction larger than a batch comes in bounded pieces, and reading pauses while Kafka is busy', async () => {
  const rows = 60_000;
  await client.query(
    `INSERT INTO workflow_runs (id, tenant_id, app_id, workflow_id, type, triggered_from, version, graph, status, created_by_role, created_by)
     SELECT gen_random_uuid(), $1, $1, $1, 'workflow', 'app-run', 'draft', repeat('x', 1000), 'running', 'account', $1 FROM generate_series(1, $2::int)`, [OTHER_TENANT, rows]);
  let mostBuffered = 0;
  let held = false;
  kafka.beforeCommit = async () => {
    mostBuffered = Math.max(mostBuffered, stream!.progress()?.bufferedBytes ?? 0);
    if (held) return;
    held = true;
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  };
  const running = start({ options: { batch: { maxChanges: 1_000, maxBytes: 1 << 20, maxDelayMs: 50 }, bufferBytes: 1 << 20 }, hooks: { onProgress: ({ bufferedBytes }) => void (mostBuffered = Math.max(mostBuffered, bufferedBytes)) } });
  await running.drained(client);
  expect(kafka.records).toHaveLength(rows);
  expect(kafka.batches.length).toBeGreaterThan(50);
  expect(kafka.largestSend).toBeLessThan((1 << 20) + 4_096);
  // One read of the socket may go beyond: 64 kB.
  expect(mostBuffered).toBeGreaterThan(500_000);
  expect(mostBuffered).toBeLessThan((1 << 20) + (128 << 10));
});

describe('the end', () => {
  test('a stopped reader has published and confirmed what it read; the next one begins after it', async () => {
    const running = start();
    await insertRun(client);
    await running.drained(client);
    await running.loop.stop();
    await running.ended;
    await insertRun(client);
    await start().drained(client);
    expect(kafka.records).toHaveLength(2);
    await expectEqual();
  });

  test('on topics with one replica it waits for the hold to pass and then confirms', async () => {
    const running = start({ options: { holdMs: 700 } });
    await insertRun(client);
    await running.until(({ records }) => records === 1);
    const confirmed = (): bigint => BigInt(running.progress()!.confirmedLsn!);
    const { lsn } = kafka.records[0]!;
    expect(confirmed() <= lsn).toBe(true);
    await running.loop.stop();
    expect(confirmed() > lsn).toBe(true);
    await expect.poll(async () => (await inspectSlot(client, here.slot))!.confirmedFlushLsn! > lsn, { timeout: 20_000 }).toBe(true);
  });
});

describe('the epoch', () => {
  test('is recorded before the first record, after what it means was told, and kept by the next reader', async () => {
    const told: EpochDecision[] = [];
    const onEpoch = async (decision: EpochDecision): Promise<void> => {
      expect(kafka.epoch).toBeUndefined();
      told.push(decision);
    };
    const running = start({ hooks: { onEpoch } });
    await insertRun(client);
    await running.drained(client);
    await running.loop.stop();
    expect(told).toMatchObject([{ epoch: 1, changed: 'first' }]);
    expect(kafka.batches[0], 'a transaction without records comes first').toBe(0);
    const slot = await inspectSlot(client, here.slot);
    expect(kafka.epoch).toMatchObject({ epoch: 1, slot: here.slot });
    const again = start({ hooks: { onEpoch } });
    await again.drained(client);
    expect(told).toHaveLength(1);
    expect(slot!.confirmedFlushLsn).not.toBeNull();
  });

  test('stays while the slot was created again, and that is told', async () => {
    const told: EpochDecision[] = [];
    await insertRun(client);
    await start().drained(client);
    await stream!.loop.stop();
    await expect.poll(async () => (await inspectSlot(client, here.slot))?.activePid, { timeout: 20_000 }).toBeNull();
    await dropSlot(client, here.slot);
    await insertRun(client);
    await createSlot(client, here.slot);
    await start({ hooks: { onEpoch: async (decision) => void told.push(decision) } }).drained(client);
    expect(told).toMatchObject([{ epoch: 1, changed: null, slotMoved: true }]);
  });
});
