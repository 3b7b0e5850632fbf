import type pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partitionOf } from '../../../src/core/row-key.ts';
import { stateKeys, type SwitchedRecord } from '../../../src/core/state.ts';
import { createKafka } from '../../../src/pipeline/kafka/client.ts';
import { openControlLog } from '../../../src/pipeline/kafka/control-log.ts';
import { findRecords } from '../../../src/pipeline/kafka/find-records.ts';
import { ConfigResourceTypes } from '../../../src/pipeline/kafka/kafkajs.ts';
import { createPartitionReader } from '../../../src/pipeline/kafka/partition-reader.ts';
import { topicNames, withAdmin } from '../../../src/pipeline/kafka/topics.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { Pipeline, until } from '../../support/pipeline.ts';
import type { Program } from '../../support/program.ts';
import { isolate } from '../../support/servers.ts';

/*
 * P4: reading the topics from their beginning into an empty cluster, after a real compaction, ends equal to PostgreSQL.
 * One story; each test goes on where the one before ended.
 */
const here = isolate(import.meta.filename);
const PARTITIONS = 2;
/** Each change a batch of its own: of several changes of a row in one batch the last alone is published. */
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: String(PARTITIONS), STREAM_BATCH_BYTES: '1' });
const names = topicNames(here.topicPrefix);
const kafka = createKafka({ brokers: here.brokers, clientId: 'test' }, pino({ level: 'silent' }));
let db: pg.Client;
let tenants: readonly string[];
let stream: Program;
let sink: Program;
/** A row that is updated again and again; one that is deleted; one that is deleted and comes back. */
let [busy, deleted, returned] = ['', '', ''];

/** Offsets of the row's records, as a reader from the beginning sees them. */
async function recordsOf(id: string): Promise<string[]> {
  const topic = names.table.workflow_runs;
  const partition = partitionOf(id, PARTITIONS);
  const reader = createPartitionReader(kafka);
  await reader.connect([topic]);
  try {
    const [from, to] = await Promise.all([reader.offsets(topic, 'beginning'), reader.offsets(topic, 'end')]);
    const offsets: string[] = [];
    for await (const { offset } of findRecords(reader, { topic, partition, from: from.get(partition)!, to: to.get(partition)! }, (key) => key.includes(id))) offsets.push(offset);
    return offsets;
  } finally {
    await reader.close();
  }
}

async function dropAllIndices(): Promise<void> {
  const indices = (await (await fetch(`${here.elasticsearchUrl}/_cat/indices/${here.indexPrefix}-workflow-*?format=json&h=index`)).json()) as { index: string }[];
  expect(indices.length).toBeGreaterThan(3);
  for (const { index } of indices) expect((await fetch(`${here.elasticsearchUrl}/${index}`, { method: 'DELETE' })).status).toBe(200);
}

interface Trace { verdict: string; row: object | null; partition: number; recordsFound: number; records: { offset: string; version: string; tombstone: boolean }[]; documents: { index: string; version: string; seqNo: number }[] }
const trace = async (id: string, code = 0, ...more: string[]): Promise<Trace> => JSON.parse(await pipeline.verb(['trace', 'workflow_runs', id, '--json', ...more], code)) as Trace;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  ({ tenants } = await loadDataset(db, { seed: 31, tenants: 2, runs: 60, nodesPerRun: 2, months: ['2026-07', '2026-08'] }));
  await pipeline.verb(['setup']);
  [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
  await pipeline.verb(['migrate']);
  [busy, deleted, returned] = (await db.query<{ id: string }>('SELECT id FROM workflow_runs ORDER BY id LIMIT 3')).rows.map(({ id }) => id) as [string, string, string];
  for (let i = 0; i < 12; i++) await db.query(`UPDATE workflow_runs SET total_steps = total_steps + 1 WHERE id = $1`, [busy]);
  await db.query('DELETE FROM workflow_runs WHERE id = $1', [deleted]);
  await db.query(`BEGIN; CREATE TEMP TABLE again ON COMMIT DROP AS SELECT * FROM workflow_runs WHERE id = '${returned}'; DELETE FROM workflow_runs WHERE id = '${returned}'; INSERT INTO workflow_runs SELECT * FROM again; COMMIT`);
  await pipeline.equal();
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

describe('trace', () => {
  it('shows a row\'s records and its document, whose versions agree in every digit', async () => {
    const found = await trace(busy);
    expect(found).toMatchObject({ verdict: 'the document is its last record', recordsFound: 13, partition: partitionOf(busy, PARTITIONS) });
    expect(found.documents).toHaveLength(1);
    expect(found.documents[0]!.version).toBe(found.records.at(-1)!.version);
    expect(BigInt(found.documents[0]!.version)).toBeGreaterThan(2n ** 52n);
    expect(found.documents[0]!.seqNo).toBeGreaterThanOrEqual(0);
    expect((await trace(busy, 0, '--last', '6')).recordsFound).toBeLessThan(13);
  });

  it('shows a delete, a return and an unknown row, and never a value', async () => {
    expect(await trace(deleted)).toMatchObject({ verdict: 'deleted on both ends', row: null, recordsFound: 2, documents: [] });
    expect((await trace(returned)).records.map(({ tombstone }) => tombstone)).toEqual([false, true, false]);
    expect((await trace('00000000-0000-4000-8000-000000000000', 1)).verdict).toBe('it is nowhere');
    const { graph } = (await db.query<{ graph: string }>('SELECT graph FROM workflow_runs WHERE id = $1', [busy])).rows[0]!;
    expect(JSON.stringify(await trace(busy))).not.toContain(graph.slice(0, 30));
  });
});

describe('replay', () => {
  it('refuses while a sink is in the group, and every wrong place at once', async () => {
    await pipeline.verb(['replay', '--from-beginning'], 1);
    const program = pipeline.spawn(['replay', '--from-time', '2999-01-01T00:00:00Z', '--from-beginning', '--table', 'nothing', '--force']);
    expect((await program.ended).code).toBe(2);
    for (const fault of ['is in the future', 'one of --from-beginning', '"nothing" is none of', '--force goes with --run']) expect(program.describe(40)).toContain(fault);
    const offsets = pipeline.spawn(['replay', '--dry-run', '--from-offset', 'workflow_runs:7:0,workflow_runs:0:999999,app_logs:0:0', '--table', 'workflow_runs']);
    expect((await offsets.ended).code).toBe(2);
    for (const fault of ['has no partition 7', 'the partition holds the offsets', 'is not among the chosen tables']) expect(offsets.describe(40)).toContain(fault);
  });

  it('ends equal to PostgreSQL from the beginning into emptied indices, after a real compaction', async () => {
    const before = await recordsOf(busy);
    expect(before).toHaveLength(13);
    // small segments by time: the broker refuses any below 1 MiB, and never cleans the one that is written to
    const entries = { 'cleanup.policy': 'compact', 'segment.ms': '200', 'min.cleanable.dirty.ratio': '0.001', 'delete.retention.ms': '604800000', 'max.message.bytes': String(23 << 20) };
    await withAdmin(kafka, 'alter', (admin) => admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: names.table.workflow_runs, configEntries: Object.entries(entries).map(([name, value]) => ({ name, value })) }] }));
    // the segment ends with the first record behind it, in each partition
    const others = (await db.query<{ id: string }>('SELECT id FROM workflow_runs ORDER BY id DESC LIMIT 20')).rows.map(({ id }) => id);
    await until('the busy row has one record left', async () => {
      for (const id of others) await db.query('UPDATE workflow_runs SET total_steps = total_steps + 1 WHERE id = $1', [id]);
      return (await recordsOf(busy)).length === 1;
    }, 150_000);
    expect(await recordsOf(busy)).toEqual(before.slice(-1));
    await pipeline.drained();
    await sink.stop();
    await dropAllIndices();
    await pipeline.verb(['replay', '--from-beginning', '--run']);
    sink = await pipeline.start('sink');
    expect(await pipeline.equal()).toBeGreaterThan(200);
    expect((await fetch(`${here.elasticsearchUrl}/${here.indexPrefix}-*/_search?q=_id:${deleted}`).then((answer) => answer.json()))).toMatchObject({ hits: { total: { value: 0 } } });
  });

  it('ends equal over a live system, from a time and from offsets, with the sinks of others', async () => {
    const since = new Date().toISOString();
    const writer = pipeline.write({ seed: 32, tenantIds: tenants, writesPerSecond: 40 });
    await writer.reached(40);
    await pipeline.drained();
    await sink.stop();
    const planned = JSON.parse(await pipeline.verb(['replay', '--from-time', since, '--dry-run', '--json'])) as { done: boolean; tables: { again: string }[] };
    expect(planned.done).toBe(false);
    expect(planned.tables.some(({ again }) => BigInt(again) > 0n)).toBe(true);
    await pipeline.verb(['replay', '--from-time', since, '--detach']);
    const replay = pipeline.spawn(['replay', '--table', 'workflow_runs', '--from-offset', '0:0,1:0']);
    await until('the group is set back', () => replay.stdout.includes('is set back'));
    sink = await pipeline.start('sink');
    expect((await replay.ended).code, replay.describe()).toBe(0);
    await writer.stop();
    await pipeline.equal();
  });

  it('leaves a switched tenant alone unless it is forced', async () => {
    const tenantId = tenants[0]!;
    const documents = async (): Promise<number> => {
      await fetch(`${here.elasticsearchUrl}/${here.indexPrefix}-*/_refresh`, { method: 'POST' });
      return ((await (await fetch(`${here.elasticsearchUrl}/${here.indexPrefix}-workflow-*-${tenantId}-*/_count`)).json()) as { count: number }).count;
    };
    const before = await documents();
    await sink.stop();
    const control = await openControlLog({ kafka, topic: names.control, logger: pino({ level: 'silent' }) });
    await control.put(stateKeys.switched(tenantId), { tenantId, at: new Date().toISOString(), lsn: '0/0' } satisfies SwitchedRecord);
    await control.close();
    await dropAllIndices();
    expect(await pipeline.verb(['replay', '--from-beginning', '--run'])).toContain('1 tenants are switched');
    expect(await documents()).toBe(0);
    await pipeline.verb(['replay', '--from-beginning', '--run', '--force']);
    expect(await documents()).toBe(before);
  });

  it('stops cleanly', async () => {
    await stream.stop();
  });
});
