import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline, until } from '../support/pipeline.ts';
import type { Program } from '../support/program.ts';
import { isolate } from '../support/servers.ts';

/*
 * The +1 of the library's acknowledge, end to end: where the commit record of B begins exactly at the end of A's, a
 * reader that confirms one byte too much never sees B (facts-of-postgres.pg.test.ts has it on the server alone). Many
 * writers make such pairs, and a reader is killed after each confirmation until one was confirmed between the two.
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
const WATCH = `${here.slot}_watch`;
const WRITERS = 16;
const PAUSE_MS = 50;
/** Each row is a batch of its own, so that what is confirmed ends anywhere among the commits. */
const ROW_BY_ROW = { STREAM_BATCH_BYTES: '1B' };
/** Enough to meet many a pair; a server that makes none at all ends the test. */
const KILLS = { least: 10, most: 60 };
let db: pg.Client;
let writers: pg.Client[] = [];

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  await pipeline.verb(['setup']);
  await db.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [WATCH]);
  writers = await Promise.all(Array.from({ length: WRITERS }, () => pipeline.connect()));
  await pipeline.start('sink');
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.query('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1', [WATCH]).catch(() => undefined);
  await Promise.all([db, ...writers].map((client) => client?.end()));
});

const INSERT = `INSERT INTO workflow_runs (id, tenant_id, app_id, workflow_id, type, triggered_from, version, graph, inputs, status, outputs, created_by_role, created_by, created_at)
  VALUES ($1, $2, $2, $2, 'workflow', 'app-run', 'draft', '{}', '{}', 'running', '{}', 'account', $2, '2026-10-10 08:25:41.123456')`;

/** A row in a transaction of each writer, and then all of these are committed at the same moment. Until it is stopped; returns the number of transactions. */
async function write(tenantId: string, stop: AbortSignal): Promise<number> {
  let count = 0;
  for (; !stop.aborted; count += writers.length) {
    await Promise.all(writers.map(async (writer) => {
      await writer.query('BEGIN');
      await writer.query(INSERT, [randomUUID(), tenantId]);
    }));
    await Promise.all(writers.map((writer) => writer.query('COMMIT')));
    await sleep(PAUSE_MS);
  }
  return count;
}

/** Ends of commits at which the next commit record begins, since the last look. Byte1('C') Int8 flags Int64 commit Int64 end: "Logical Replication Message Formats". */
async function touching(): Promise<bigint[]> {
  const { rows } = await db.query<{ data: Buffer }>("SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2) WHERE get_byte(data, 0) = ascii('C')", [WATCH, here.publication]);
  const commits = rows.map(({ data }) => ({ begin: data.readBigUInt64BE(2), end: data.readBigUInt64BE(10) }));
  return commits.slice(0, -1).flatMap(({ end }, i) => (commits[i + 1]!.begin === end ? [end] : []));
}

/** Where the slot stands once the server has noticed that its reader is dead. */
async function confirmed(): Promise<bigint> {
  let lsn = '';
  await until('the server has noticed', async () => {
    const { rows: [slot] } = await db.query<{ active: boolean; lsn: string }>("SELECT active, (confirmed_flush_lsn - '0/0'::pg_lsn)::text AS lsn FROM pg_replication_slots WHERE slot_name = $1", [here.slot]);
    lsn = slot!.lsn;
    return !slot!.active;
  });
  return BigInt(lsn);
}

it('with 16 writers and a reader that is killed after each confirmation, also between commits that touch, no transaction is skipped', async () => {
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const tenantId = randomUUID();
  const writing = write(tenantId, stop.signal);
  const pairs = new Set<bigint>();
  const stoodAt = new Set<bigint>();
  // Also one byte further, where a reader that confirms too much stands: its missing rows are to fail the test.
  const between = (): bigint[] => [...stoodAt].filter((lsn) => pairs.has(lsn) || pairs.has(lsn - 1n));
  let killed = 0;
  let stream: Program;
  for (; killed < KILLS.least || (between().length === 0 && killed < KILLS.most); killed++) {
    stream = pipeline.spawn(['stream'], { env: ROW_BY_ROW, crashAt: { point: 'stream.slot-confirmed' } });
    expect([(await stream.ended).signal, stream.witness], stream.describe()).toEqual(['SIGKILL', 'stream.slot-confirmed']);
    stoodAt.add(await confirmed());
    for (const end of await touching()) pairs.add(end);
  }
  stop.abort();
  const written = await writing;
  process.stdout.write(`${written} transactions, ${pairs.size} pairs of commits that touch, ${killed} kills, ${between().length} of them between the two\n`);
  stream = await pipeline.start('stream');
  expect(await pipeline.equal()).toBe(written);
  expect(between().length, 'kills between two commits that touch').toBeGreaterThan(0);
});
