import type pg from 'pg';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/config.ts';
import { TABLES } from '../../../src/core/contracts.ts';
import { CRASH_POINTS, type CrashPoint } from '../../../src/core/crash-point.ts';
import { parseLsn } from '../../../src/core/lsn.ts';
import { stateKeys, type BackfillRequired, type ControlLog, type EpochRecord } from '../../../src/core/state.ts';
import { openControlLog } from '../../../src/pipeline/kafka/control-log.ts';
import { createLetterWriter } from '../../../src/pipeline/kafka/dead-letters.ts';
import { topicNames, withAdmin } from '../../../src/pipeline/kafka/topics.ts';
import { openKafka } from '../../../src/run/connections.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema, dropDifySchema } from '../../support/dify/schema.ts';
import { Pipeline } from '../../support/pipeline.ts';
import { isolate } from '../../support/servers.ts';
import { open, proveDifyWrites, sourceShape, startTraffic, type Traffic } from '../support/source.ts';

/*
 * P5 for setup and teardown: the real program is killed after each of its steps while Dify writes. At every moment
 * UPDATE and DELETE work, and the next run ends in the same state as one that was never killed.
 */
const here = isolate(import.meta.filename);
const log = pino({ level: 'silent' });
let db: pg.Client;
let traffic: Traffic;
let number = 0;
let pipeline: Pipeline;

beforeAll(async () => {
  db = await open(here.postgresUrl, 'dify-worker');
});
afterAll(() => db.end());

beforeEach(async () => {
  await db.query('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()');
  await db.query(`DROP PUBLICATION IF EXISTS ${here.publication}`);
  await dropDifySchema(db);
  await createDifySchema(db);
  await loadDataset(db, { runs: 20, nodesPerRun: 2, tenants: 2, months: ['2026-10'], seed: 1 });
  // names of its own for each test: what one left behind must not make the next one good
  number += 1;
  pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2', KAFKA_TOPIC_PREFIX: `${here.topicPrefix}-${number}`, ELASTICSEARCH_INDEX_PREFIX: `${here.indexPrefix}-${number}` });
  traffic = await startTraffic(here.postgresUrl);
});
afterEach(async () => {
  await pipeline.killAll();
  const { failures, count } = await traffic.stop();
  expect(failures).toEqual([]);
  expect(count).toBeGreaterThan(20);
});

async function kill(verb: readonly string[], point: CrashPoint, nth = 1): Promise<void> {
  const program = pipeline.spawn(verb, { crashAt: { point, nth } });
  expect(await program.ended, program.describe()).toEqual({ code: null, signal: 'SIGKILL' });
  expect(program.witness).toBe(point);
  await proveDifyWrites(db);
}

async function withControl<T>(look: (control: ControlLog) => T | Promise<T>): Promise<T> {
  const config = loadConfig(pipeline.env);
  const control = await openControlLog({ kafka: openKafka(config, log), topic: topicNames(config.kafka.topicPrefix).control, logger: log });
  try {
    return await look(control);
  } finally {
    await control.close();
  }
}

async function expectSetUp(reason: BackfillRequired['reason']): Promise<void> {
  const slotLsn = (await db.query<{ lsn: string }>('SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = $1', [here.slot])).rows[0]!.lsn;
  expect(await sourceShape(db, here)).toEqual({
    identities: Object.fromEntries(TABLES.map((table) => [table, `dify_es_identity_${table}`])), indexes: [...TABLES], published: [...TABLES].sort(), slots: [here.slot],
  });
  await proveDifyWrites(db);
  await withControl((control) => {
    for (const table of TABLES) expect(control.get<BackfillRequired>(stateKeys.required(table))).toMatchObject({ reason, reconcile: reason !== 'first-run' });
    const epoch = control.get<EpochRecord>(stateKeys.epoch)!;
    expect(epoch).toMatchObject({ epoch: 1, slot: here.slot, highWaterLsn: slotLsn });
    for (const table of TABLES) expect(parseLsn(control.get<BackfillRequired>(stateKeys.required(table))!.sinceLsn)).toBeGreaterThanOrEqual(parseLsn(slotLsn));
    expect(control.get(stateKeys.layout)).toMatchObject({ partitions: 2 });
  });
}

/** Each run goes on where the one before was killed, up to its own point: every point, and the first and last table. */
const SETUP_POINTS: readonly (readonly [CrashPoint, number])[] = [
  ['setup.index-created', 1], ['setup.identity-set', 1], ['setup.index-created', 3], ['setup.identity-set', 1],
  ['setup.publication-created', 1], ['setup.slot-created', 1], ['setup.topics-created', 1], ['setup.layout-pinned', 1],
  ['setup.required-recorded', 1], ['setup.published-recorded', 1], ['setup.epoch-recorded', 1], ['setup.templates-put', 1],
];

describe('setup', () => {
  test('killed after each of its steps in turn, it is made good by the next run, and the backfill is required', async () => {
    for (const [point, nth] of SETUP_POINTS) await kill(['setup'], point, nth);
    await pipeline.verb(['setup']);
    await expectSetUp('first-run');
  });

  test('a slot that is made anew and a kill before its record still end in BACKFILL REQUIRED', async () => {
    await pipeline.verb(['setup']);
    await db.query('SELECT pg_drop_replication_slot($1)', [here.slot]);
    await kill(['setup'], 'setup.slot-created');
    await pipeline.verb(['setup']);
    await expectSetUp('slot-created');
  });

  test('a slot that lost its publication is made anew, also when setup is killed at any step of it, and the backfill is required', async () => {
    await pipeline.verb(['setup']);
    await withControl(async (control) => {
      for (const table of TABLES) await control.remove(stateKeys.required(table));
    });
    await db.query(`DROP PUBLICATION ${here.publication}`);
    for (const point of ['setup.slot-dropped', 'setup.publication-created', 'setup.slot-created', 'setup.required-recorded', 'setup.published-recorded', 'setup.epoch-recorded'] as const) await kill(['setup'], point);
    await pipeline.verb(['setup']);
    await expectSetUp('slot-created');
  });

  test('a table that an upgrade brings is published and read again, also when setup is killed in between and a reader runs', async () => {
    await db.query('ALTER TABLE workflow_node_execution_offload RENAME TO kept');
    await pipeline.verb(['setup']);
    await withControl((control) => control.remove(stateKeys.required('workflow_node_execution_offload')));
    const stream = await pipeline.start('stream');
    await db.query('ALTER TABLE kept RENAME TO workflow_node_execution_offload');
    await kill(['setup'], 'setup.publication-created');
    await pipeline.verb(['setup']);
    await withControl((control) => {
      expect(control.get<BackfillRequired>(stateKeys.required('workflow_node_execution_offload'))).toMatchObject({ reason: 'schema-drift', reconcile: true });
      expect(control.get<BackfillRequired>(stateKeys.required('workflow_runs'))).toMatchObject({ reason: 'first-run' });
    });
    await stream.stop();
  });

  test('a topic of a table that was deleted is made anew, also when setup is killed in between, and its backfill is required', async () => {
    await pipeline.verb(['setup']);
    await withControl(async (control) => {
      for (const table of TABLES) await control.remove(stateKeys.required(table));
    });
    const config = loadConfig(pipeline.env);
    const topic = topicNames(config.kafka.topicPrefix).table.workflow_runs;
    await withAdmin(openKafka(config, log), 'delete a topic', (admin) => admin.deleteTopics({ topics: [topic] }));
    await expect.poll(topics).not.toContain(topic);
    await kill(['setup'], 'setup.topics-created');
    expect(await topics()).toContain(topic);
    await pipeline.verb(['setup']);
    await withControl((control) => {
      expect(control.get<BackfillRequired>(stateKeys.required('workflow_runs'))).toMatchObject({ reason: 'kafka-data-lost', sinceEpoch: 1, reconcile: true });
      for (const table of TABLES) if (table !== 'workflow_runs') expect(control.get(stateKeys.required(table))).toBeUndefined();
    });
  });

  test('a server that is away is exit 3, and then nothing was touched', async () => {
    await pipeline.verb(['setup'], 3, { KAFKA_BROKERS: '127.0.0.1:1' });
    await pipeline.verb(['setup'], 3, { ELASTICSEARCH_HOSTS: '127.0.0.1:1' });
    expect(await sourceShape(db, here)).toMatchObject({ indexes: [], published: [], slots: [] });
  });

  test('it refuses while ELASTICSEARCH_ENABLED is false, and print-sql does not', async () => {
    await pipeline.verb(['setup'], 2, { ELASTICSEARCH_ENABLED: 'false' });
    await pipeline.verb(['teardown'], 2, { ELASTICSEARCH_ENABLED: 'false' });
    expect(await pipeline.verb(['setup', '--print-sql'], 0, { ELASTICSEARCH_ENABLED: 'false' })).toContain('CREATE PUBLICATION');
    expect(await sourceShape(db, here)).toMatchObject({ indexes: [], published: [], slots: [] });
  });

  test('SIGTERM while it waits for a transaction ends it within ten seconds', async () => {
    const holder = await open(here.postgresUrl, 'forgotten');
    await holder.query(`BEGIN; UPDATE workflow_runs SET status = status`);
    const program = pipeline.spawn(['setup']);
    await program.said('waiting for pid');
    const began = performance.now();
    process.kill(program.pid, 'SIGTERM');
    expect(await program.ended).toEqual({ code: 1, signal: null });
    expect(performance.now() - began).toBeLessThan(10_000);
    await holder.end();
    await proveDifyWrites(db);
  });
});

const TEARDOWN_POINTS: readonly (readonly [CrashPoint, number])[] = [
  ['teardown.publication-dropped', 1], ['teardown.slot-dropped', 1], ['teardown.identity-restored', 1], ['teardown.index-dropped', 1],
  ['teardown.identity-restored', 3], ['teardown.index-dropped', 1],
  ['teardown.topics-deleted', 1], ['teardown.group-deleted', 1], ['teardown.templates-removed', 1],
];

describe('teardown', () => {
  test('killed after each of its steps in turn, it is made good by the next run', async () => {
    const tested: readonly CrashPoint[] = [...SETUP_POINTS, ...TEARDOWN_POINTS].map(([point]) => point);
    expect([...new Set([...tested, 'setup.slot-dropped'])].sort(), 'every point of setup and teardown has its test').toEqual(CRASH_POINTS.filter((point) => /^(setup|teardown)\./.test(point)).sort());
    await pipeline.verb(['setup']);
    // So that there is a group.
    await (await pipeline.start('sink')).stop();
    for (const [point, nth] of TEARDOWN_POINTS) await kill(['teardown'], point, nth);
    await pipeline.verb(['teardown']);
    expect(await sourceShape(db, here)).toEqual({ identities: Object.fromEntries(TABLES.map((table) => [table, 'default'])), indexes: [], published: [], slots: [] });
    expect(await topics()).toEqual([]);
    await proveDifyWrites(db);
  });

  test('--keep-data leaves the topics, and a later setup goes on with them', async () => {
    await pipeline.verb(['setup']);
    await pipeline.verb(['teardown', '--keep-data']);
    expect(await topics()).toHaveLength(6);
    await pipeline.verb(['setup']);
    await expectSetUp('slot-created');
  });

  test('it names the open dead letters that go with the topics, before the first step and behind it', async () => {
    await pipeline.verb(['setup']);
    const config = loadConfig(pipeline.env);
    const letters = createLetterWriter(openKafka(config, log), topicNames(config.kafka.topicPrefix));
    const letter = { cause: 'undecodable', detail: 'test', table: 'workflow_runs', key: null, version: null, origin: { stage: 'sink' }, value: null } as const;
    await letters.park([letter, letter, letter]);
    await letters.close();
    await pipeline.verb(['dlq', 'accept', '0:0', '--why', 'a test']);

    const program = pipeline.spawn(['teardown']);
    expect(await program.ended, program.describe()).toMatchObject({ code: 0 });
    expect(program.stderr.find((line) => line.includes('2 open dead letters are deleted with the topics'))).toContain('--keep-data');
    expect(program.stdout).toContain('2 open dead letters are gone with them');
    await pipeline.verb(['setup']);
    expect(await pipeline.verb(['teardown'])).not.toContain('dead letter');
  });

  test('a reader or a sink that runs stops it before anything is touched', async () => {
    await pipeline.verb(['setup']);
    const sink = await pipeline.start('sink');
    expect(await pipeline.verb(['teardown', '--json'], 1)).toContain('SINK_RUNNING');
    await sink.stop();
    const stream = await pipeline.start('stream');
    expect(await pipeline.verb(['teardown', '--json'], 1)).toContain('PG_SLOT_BUSY');
    await stream.stop();
    expect(await sourceShape(db, here)).toMatchObject({ indexes: [...TABLES], slots: [here.slot], published: [...TABLES].sort() });
    expect(await topics()).toHaveLength(6);
    await pipeline.verb(['teardown']);
    expect(await topics()).toEqual([]);
  });
});

function topics(): Promise<string[]> {
  const config = loadConfig(pipeline.env);
  return withAdmin(openKafka(config, log), 'list', async (admin) => (await admin.listTopics()).filter((topic) => topic.startsWith(`${config.kafka.topicPrefix}.`)));
}
