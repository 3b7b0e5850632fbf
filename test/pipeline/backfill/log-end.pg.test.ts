import type pg from 'pg';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import type { Tuple } from '../../../src/core/cells.ts';
import type { Row, RowRecord } from '../../../src/core/contracts.ts';
import type { Lsn } from '../../../src/core/lsn.ts';
import { sameKey, type RowKey } from '../../../src/core/row-key.ts';
import { type RowVersion, versionOfCommit } from '../../../src/core/row-version.ts';
import { keyOf } from '../../../src/pipeline/decode/key-columns.ts';
import { PgoutputDecoder } from '../../../src/pipeline/decode/pgoutput.ts';
import { textsOf } from '../../support/cells.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { Random } from '../../support/dify/random.ts';
import { isolate } from '../../support/servers.ts';
import { backfill, EVERYTHING, logRows, pinned, tableRows } from './harness.ts';
import { keyText, MemoryKafka } from './memory-kafka.ts';

/*
 * Backfill and stream write one log at once, under writers that update, delete, insert again and move the same few
 * rows. Afterwards the last record of each key must be the row as the table has it (what compaction and a replay
 * leave), and so must be the document with the highest version.
 */
const here = isolate(import.meta.filename);
const TABLE = 'workflow_app_logs';
const ROWS = 2000;
const rowId = (n: number): string => `10000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
let client: pg.Client;

beforeAll(async () => {
  client = await pinned(here)();
  await createDifySchema(client);
  await client.query(`ALTER TABLE ${TABLE} REPLICA IDENTITY FULL; CREATE PUBLICATION ${here.publication} FOR TABLE ${TABLE}`);
  await client.query(insertSql(1, ROWS));
  await client.query(`ANALYZE ${TABLE}`);
  await client.query(`SELECT pg_create_logical_replication_slot('${here.slot}', 'pgoutput')`);
});
afterAll(() => client.end());

const insertSql = (from: number, to: number): string =>
  `INSERT INTO ${TABLE} (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
   SELECT ('10000000-0000-4000-8000-' || lpad(g::text, 12, '0'))::uuid, a, a, a, a, gen_random_uuid()::text, 'account', a, timestamp '2026-08-01' + g * interval '1 second'
   FROM generate_series(${from}, ${to}) g, (SELECT '00000000-0000-4000-8000-000000000001'::uuid AS a) t ON CONFLICT DO NOTHING`;

const DEADLOCK = '40P01';

/** One writer: every kind of change, each its own transaction, on rows that several writers share. */
async function write(random: Random, stop: AbortSignal): Promise<number> {
  const writer = await pinned(here)();
  let done = 0;
  for (; !stop.aborted; done++) {
    const n = random.int(1, ROWS);
    const row = `WHERE id = '${rowId(n)}'`;
    const change = writer.query(random.pick([
      `UPDATE ${TABLE} SET created_from = gen_random_uuid()::text ${row}`,
      `UPDATE ${TABLE} SET created_from = gen_random_uuid()::text WHERE id BETWEEN '${rowId(n)}' AND '${rowId(n + 20)}'`,
      `UPDATE ${TABLE} SET created_at = created_at + interval '1 month' ${row}`,
      `UPDATE ${TABLE} SET tenant_id = gen_random_uuid() ${row}`,
      `DELETE FROM ${TABLE} ${row}`,
      `DELETE FROM ${TABLE} ${row}; ${insertSql(n, n)}`,
      insertSql(n, n + 5),
    ]));
    // Two that change several rows may wait for each other; PostgreSQL ends one of them, and then it changed nothing.
    await change.catch((error: unknown) => {
      if ((error as { code?: string }).code !== DEADLOCK) throw error;
    });
  }
  await writer.end();
  return done;
}

class Passes {
  #waiting: (() => void)[] = [];
  /** Resolves when a pass of the stream that began after this call is published. */
  readonly next = (): Promise<void> => new Promise((resolve) => void this.#waiting.push(resolve));
  begin(): () => void {
    const waiting = this.#waiting.splice(0);
    return () => waiting.forEach((resolve) => resolve());
  }
}

/** The stream as the slot's SQL interface gives it, published once it is visible to others, in the order of the log. */
async function stream(kafka: MemoryKafka, reader: pg.Client, stop: AbortSignal, passes = new Passes()): Promise<void> {
  const decoder = new PgoutputDecoder();
  for (let last = false; ; ) {
    last = stop.aborted;
    const published = passes.begin();
    const { rows } = await reader.query(`SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)`, [here.slot, here.publication]);
    const xids: number[] = [];
    let commitLsn = 0n as Lsn;
    const records: RowRecord[] = [];
    for (const { data } of rows as { data: Buffer }[]) {
      const message = decoder.decode(data);
      if (message.kind === 'begin') {
        commitLsn = message.commitLsn;
        xids.push(message.xid);
      } else if (message.kind === 'insert' || message.kind === 'update' || message.kind === 'delete') {
        const shape = message.relation.shape;
        const record = (key: RowKey, op: RowRecord['op'], row: Row | null): number =>
          records.push({ table: TABLE, key, version: versionOfCommit(1, commitLsn), op, lsn: commitLsn, timeMs: 0, row });
        const tupleKey = (cells: Tuple): RowKey => keyOf(shape, cells) as RowKey;
        const old = message.kind !== 'insert' && message.old.kind === 'full' ? tupleKey(message.old.cells) : undefined;
        if (message.kind === 'delete') record(old as RowKey, 'delete', null);
        else {
          const key = tupleKey(message.tuple);
          if (old && !sameKey(old, key)) record(old, 'delete', null);
          record(key, message.kind, { shape, cells: message.tuple.whole()! });
        }
      }
    }
    while (xids.length > 0 && !(await reader.query('SELECT bool_and(pg_visible_in_snapshot(x::text::xid8, pg_current_snapshot())) AS seen FROM unnest($1::bigint[]) x', [xids])).rows[0].seen);
    for (const record of records) kafka.append(record);
    published();
    if (last && rows.length === 0) return;
  }
}

/** What Elasticsearch holds in the end: external_gte in the order of the log. */
function documents(records: readonly RowRecord[]): Map<string, Row> {
  const versions = new Map<string, RowVersion>();
  const found = new Map<string, Row>();
  for (const record of records) {
    const key = keyText(record.key);
    if (record.version < (versions.get(key) ?? 0n)) continue;
    versions.set(key, record.version);
    if (record.row) found.set(key, record.row);
    else found.delete(key);
  }
  return found;
}

test.each([1, 2, 3])('the log ends with the newest record of every row (seed %i)', async (seed) => {
  const kafka = new MemoryKafka();
  const reader = await pinned(here)();
  // What earlier seeds left in the slot is in the table already.
  await stream(new MemoryKafka(), reader, AbortSignal.abort());
  const [stopWriting, stopStreaming] = [new AbortController(), new AbortController()];
  onTestFinished(() => [stopWriting, stopStreaming].forEach((stop) => stop.abort()));
  const writing = Array.from({ length: 4 }, (_, at) => write(new Random(seed * 100 + at), stopWriting.signal));
  const passes = new Passes();
  const streaming = stream(kafka, reader, stopStreaming.signal, passes);
  let resent = 0;
  let tombstones = 0;
  const chunkOf = new Set<string>();
  kafka.onSend = (records) => {
    for (const record of records) {
      if (record.row === null) tombstones++;
      else if (chunkOf.has(record.key.id)) resent++;
      chunkOf.add(record.key.id);
    }
  };
  // Writers get a moment, and the stream publishes what they did: newer records of these rows then lie before them.
  kafka.beforeSend = async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    await passes.next();
  };
  const result = await backfill(here, kafka, { filter: { ...EVERYTHING, tables: [TABLE] }, workers: 3, batchRows: 50 });
  stopWriting.abort();
  const writes = (await Promise.all(writing)).reduce((sum, n) => sum + n, 0);
  stopStreaming.abort();
  await streaming;
  await reader.end();

  expect(result.state).toBe('done');
  expect(writes).toBeGreaterThan(200);
  // The race took place: the re-read found rows that had changed, and rows that had gone or moved.
  expect(resent).toBeGreaterThan(10);
  expect(tombstones).toBeGreaterThan(3);
  const expected = await tableRows(client, TABLE);
  expect(logRows(kafka, TABLE)).toEqual(expected);
  const found = [...documents(kafka.committed()).values()].map(textsOf);
  expect(found.length).toBe(expected.size);
  for (const row of found) expect(row).toEqual(expected.get(String(row['id'])));
});
