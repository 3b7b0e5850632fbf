import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { DifyEsError } from '../../../src/core/errors.ts';
import { parseLsn } from '../../../src/core/lsn.ts';
import { connect } from '../../../src/pipeline/capture/pg-connection.ts';
import { createSlot, dropSlot, inspectSlot } from '../../../src/pipeline/capture/slot.ts';
import { cellOf } from '../../support/cells.ts';
import { isolate } from '../../support/servers.ts';
import { inTransaction, insertRun, longText, MemoryKafka, openSource, OTHER_TENANT, startStream, tableAsText, targetOf, TENANT, topicAsText, type Fault, type RunningStream, type StreamOverrides } from './harness.ts';

const here = isolate(import.meta.filename);
let client: pg.Client;
let kafka: MemoryKafka;
const running: RunningStream[] = [];

beforeAll(async () => {
  client = await openSource(here, { slot: false });
});
afterAll(() => client.end());
beforeEach(async () => {
  await client.query('TRUNCATE workflow_runs');
  await createSlot(client, here.slot);
  kafka = new MemoryKafka();
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.loop.stop()));
  await expect.poll(readerPid, { timeout: 20_000 }).toBeNull();
  await dropSlot(client, here.slot);
});

function start(overrides: StreamOverrides = {}): RunningStream {
  const one = startStream(here, kafka, overrides);
  running.push(one);
  return one;
}
const readerPid = async (): Promise<number | null | undefined> => (await inspectSlot(client, here.slot))?.activePid;
async function expectEqual(): Promise<void> {
  expect(topicAsText(kafka, 'workflow_runs')).toEqual(await tableAsText(client, 'workflow_runs'));
}
/** Per id in the order of the topic: what a reader of the topic would see of one row. */
function statesOf(id: string): (string | undefined)[] {
  return kafka.records.filter(({ key }) => key.id === id).map(({ row }) => (row ? cellOf(row, 'status')?.toString() : undefined));
}

describe('Kafka', () => {
  const faults: [string, Fault[]][] = [
    ['begin is refused', [{ at: 'begin', how: 'refuse' }]],
    ['send is refused', [{ at: 'send', how: 'refuse' }]],
    ['the answer to send is lost', [{ at: 'send', how: 'apply-then-fail' }]],
    ['commit is refused', [{ at: 'commit', how: 'refuse' }]],
    ['the answer to commit is lost', [{ at: 'commit', how: 'apply-then-fail' }]],
    ['it is away for a while', Array.from({ length: 6 }, () => ({ at: 'begin', how: 'refuse' }) as const)],
  ];

  test.each(faults)('%s: nothing is lost, and the order of a row is kept', async (_, told) => {
    const stream = start();
    await stream.drained(client);
    const id = await insertRun(client, { status: 's0', graph: longText() });
    await stream.drained(client);
    kafka.faults.push(...told);
    for (let i = 1; i <= 5; i++) await client.query('UPDATE workflow_runs SET status = $2 WHERE id = $1', [id, `s${i}`]);
    await stream.drained(client);
    expect(kafka.faults, 'every fault was told').toEqual([]);
    await expectEqual();
    const states = statesOf(id);
    expect(states.at(-1)).toBe('s5');
    // Taken twice is allowed; what was taken once never ends up behind something newer.
    const firstSeen = [...new Set(states)];
    expect(firstSeen).toEqual([...firstSeen].sort());
  });

  test('the slot is not confirmed while Kafka has not committed, and a reader that hangs there can be stopped', async () => {
    const stream = start({ options: { stopTimeoutMs: 300 } });
    await stream.drained(client);
    const reached = new Promise<void>((resolve) => {
      kafka.beforeCommit = (records) => (records.length > 0 ? new Promise<void>(() => resolve()) : undefined);
    });
    const { rows: [row] } = await client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
    await insertRun(client);
    await reached;
    // Two status intervals of the reader: if it would confirm, it had the time.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    const written = kafka.records.length;
    await stream.loop.stop();
    await stream.ended;
    kafka.beforeCommit = () => undefined;
    expect([written, (await inspectSlot(client, here.slot))!.confirmedFlushLsn! <= parseLsn(row!.lsn)]).toEqual([0, true]);
    await start().drained(client);
    await expectEqual();
  });

  test('a publisher that is fenced ends the reader, which confirms nothing more', async () => {
    const stream = start();
    await stream.drained(client);
    await (await kafka.open()).begin();
    await insertRun(client);
    await expect(stream.ended).rejects.toMatchObject({ code: 'KAFKA_FENCED' });
    expect(kafka.records).toEqual([]);
  });

  test('a fault of the program ends the reader instead of being tried for ever', async () => {
    const stream = start();
    await stream.drained(client);
    kafka.faults.push({ at: 'send', how: 'refuse', error: new TypeError('x is not a function') });
    await insertRun(client);
    await expect(stream.ended).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  test('a reader that cannot reach Kafka stops in time, and the next one brings what is missing', async () => {
    const stream = start({ options: { stopTimeoutMs: 500 } });
    await stream.drained(client);
    kafka.isAway = true;
    await insertRun(client);
    await expect.poll(() => kafka.refused, { timeout: 20_000 }).toBeGreaterThan(0);
    await stream.loop.stop();
    await stream.ended;
    kafka.isAway = false;
    expect(kafka.records).toEqual([]);
    await start().drained(client);
    await expectEqual();
  });
});

describe('the connection', () => {
  test('a walsender that is killed again and again, also within a large transaction, loses nothing and turns nothing round', async () => {
    let batches = 0;
    kafka.beforeCommit = async () => {
      if (++batches % 5 === 3 && batches < 40) await client.query('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL', [here.slot]);
    };
    const stream = start({ options: { batch: { maxChanges: 30, maxBytes: 1 << 20, maxDelayMs: 5 } } });
    const ids: string[] = [];
    for (let i = 0; i < 20; i++) ids.push(await insertRun(client, { status: 's00', graph: longText() }));
    await inTransaction(client, async () => {
      for (let i = 1; i <= 20; i++) await client.query('UPDATE workflow_runs SET status = $1', [`s${String(i).padStart(2, '0')}`]);
    });
    for (const id of ids.slice(0, 5)) await client.query('DELETE FROM workflow_runs WHERE id = $1', [id]);
    await stream.drained(client);
    expect(kafka.opened, 'connections in all').toBeGreaterThan(2);
    await expectEqual();
    expect(statesOf(ids[10]!).at(-1)).toBe('s20');
    expect(statesOf(ids[0]!).at(-1)).toBeUndefined();
  });

  test('commit records that touch: a reader cut off right after each confirmation skips none', async () => {
    const writers = await Promise.all(Array.from({ length: 16 }, () => connect(targetOf(here.env), { role: 'test' })));
    const written = (await Promise.all(writers.map(async (writer) => {
      const ids = [await insertRun(writer), await insertRun(writer), await insertRun(writer)];
      await writer.end();
      return ids;
    }))).flat();
    // The first time a transaction comes, everything before it is confirmed, the connection is cut and the transaction
    // is not taken: the server has to send it again from exactly that position.
    const cut = new Set<string>();
    const stream = start({ options: { batch: { maxChanges: 1, maxBytes: 1 << 20, maxDelayMs: 1_000 }, confirmEveryMs: 0, retry: { firstMs: 1, longestMs: 20 } } });
    kafka.beforeCommit = async ([record]) => {
      if (!record || cut.has(record.key.id)) return;
      cut.add(record.key.id);
      const told = stream.progress()?.confirmedLsn;
      if (told) await expect.poll(async () => (await inspectSlot(client, here.slot))!.confirmedFlushLsn, { interval: 5, timeout: 10_000 }).toBeGreaterThanOrEqual(told);
      await client.query('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL', [here.slot]);
      await expect.poll(readerPid, { interval: 5, timeout: 10_000 }).toBeNull();
      throw new Error('not taken');
    };
    await stream.drained(client);
    const arrived = kafka.records.map(({ key }) => key.id);
    expect(written.filter((id) => !arrived.includes(id))).toEqual([]);
    expect(cut.size).toBe(written.length);
  }, 120_000);

  test('the server hears from a reader whose socket is paused, so wal_sender_timeout does not end it', async () => {
    await client.query(`ALTER DATABASE ${here.database} SET wal_sender_timeout = '2s'`);
    const stream = start({ options: { bufferBytes: 100_000, batch: { maxChanges: 50, maxBytes: 100_000, maxDelayMs: 5 } } });
    await stream.drained(client);
    const pid = await readerPid();
    let release = (): void => undefined;
    const reached = new Promise<void>((resolve) => {
      kafka.beforeCommit = () => {
        resolve();
        return new Promise<void>((open) => (release = open));
      };
    });
    await client.query(
      `INSERT INTO workflow_runs (id, tenant_id, app_id, workflow_id, type, triggered_from, version, graph, status, created_by_role, created_by)
       SELECT gen_random_uuid(), $1, $1, $1, 'workflow', 'app-run', 'draft', repeat('x', 1900), 'running', 'account', $1 FROM generate_series(1, 20000)`, [TENANT]);
    await reached;
    await new Promise((resolve) => setTimeout(resolve, 6_000));
    expect(await readerPid()).toBe(pid);
    kafka.beforeCommit = () => undefined;
    release();
    await stream.drained(client);
    expect(await readerPid()).toBe(pid);
    expect(kafka.records).toHaveLength(20_000);
    await client.query(`ALTER DATABASE ${here.database} RESET wal_sender_timeout`);
  });

  test('a second reader waits while the slot is in use, fences nobody, and takes over', async () => {
    const first = start();
    await insertRun(client);
    await first.drained(client);
    const second = start();
    await insertRun(client);
    await first.drained(client);
    expect(kafka.opened).toBe(1);
    await first.loop.stop();
    await insertRun(client);
    await second.drained(client);
    expect(kafka.opened).toBe(2);
    await expectEqual();
  });

  test('a reader whose slot was taken over does not publish what it still holds when Kafka answers again', async () => {
    // It is cut off while Kafka refuses; the other publishes the newer state; then Kafka answers the first again.
    const first = start();
    const id = await insertRun(client, { status: 's0' });
    await first.drained(client);
    kafka.isAway = true;
    await client.query(`UPDATE workflow_runs SET status = 's1' WHERE id = $1`, [id]);
    await expect.poll(() => kafka.refused, { timeout: 20_000 }).toBeGreaterThan(0);
    await client.query('SELECT pg_terminate_backend($1)', [await readerPid()]);
    const other = new MemoryKafka();
    other.control.set('epoch', kafka.epoch);
    const second = startStream(here, other);
    running.push(second);
    await client.query(`UPDATE workflow_runs SET status = 's2' WHERE id = $1`, [id]);
    await second.drained(client);
    kafka.isAway = false;
    await second.loop.stop();
    await insertRun(client, { tenant: OTHER_TENANT });
    await first.drained(client);
    expect(statesOf(id), 's1 is only ever published by the one who held the slot').toEqual(['s0']);
  });
});

describe('a start that cannot succeed ends with the code whose cure helps', () => {
  const endsWith = (code: string, overrides: StreamOverrides, names = here): Promise<void> => {
    const one = startStream(names, kafka, overrides);
    return expect(one.ended).rejects.toSatisfy((error) => error instanceof DifyEsError && error.code === code);
  };

  test('no slot', () => endsWith('PG_SLOT_MISSING', { options: { slot: 'no_such_slot' } }));
  test('no publication', () => endsWith('PG_PUBLICATION_MISSING', { options: { publication: 'no_such_publication' } }));
  test('a wrong password', () => endsWith('PG_AUTH', { options: { target: { ...targetOf(here.env), password: 'wrong' } } }));
  test('nobody listens', () => endsWith('PG_UNREACHABLE', { options: { target: { ...targetOf(here.env), port: 1 } } }));
  test('no such database', () => endsWith('CONFIG_INVALID', { options: { target: { ...targetOf(here.env), database: 'no_such_database' } } }));
  test('a role without the right to replicate', async () => {
    const role = `reader_${randomUUID().slice(0, 8)}`;
    await client.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'`);
    await endsWith('PG_RIGHTS', { options: { target: { ...targetOf(here.env), user: role, password: 'x' } } });
    await client.query(`DROP ROLE ${role}`);
  });
  test('Kafka away', () => endsWith('KAFKA_UNREACHABLE', { parts: { openPublisher: () => Promise.reject(new DifyEsError('KAFKA_UNREACHABLE', 'away')) } }));
});

test('concurrent writers on the same rows, with deletes and re-inserts of one id: the topic ends as the table', async () => {
  const stream = start({ cacheBytes: 50_000, options: { batch: { maxChanges: 20, maxBytes: 1 << 20, maxDelayMs: 5 } } });
  const ids = Array.from({ length: 12 }, () => randomUUID());
  const writers = await Promise.all(Array.from({ length: 8 }, () => connect(targetOf(here.env), { role: 'test' })));
  await Promise.all(writers.map(async (writer, w) => {
    for (let i = 0; i < 60; i++) {
      const id = ids[(w * 7 + i * 5) % ids.length]!;
      const turn = (w + i) % 6;
      if (turn <= 1) await insertRun(writer, { id, graph: longText(), status: `${w}-${i}` }).catch(() => undefined);
      else if (turn === 2) await writer.query('DELETE FROM workflow_runs WHERE id = $1', [id]);
      else if (turn === 3) await writer.query('UPDATE workflow_runs SET tenant_id = $2 WHERE id = $1', [id, i % 2 ? TENANT : OTHER_TENANT]);
      else await writer.query('UPDATE workflow_runs SET status = $2 WHERE id = $1', [id, `${w}-${i}`]);
    }
    await writer.end();
  }));
  await stream.drained(client);
  await expectEqual();
  expect(kafka.letters).toEqual([]);
  // of some 400 changes; how many of them meet in one batch is a matter of time
  expect(kafka.records.length).toBeGreaterThan(60);
});
