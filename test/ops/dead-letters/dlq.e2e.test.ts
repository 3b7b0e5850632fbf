import { randomBytes, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createKafka } from '../../../src/pipeline/kafka/client.ts';
import { ConfigResourceTypes } from '../../../src/pipeline/kafka/kafkajs.ts';
import { topicNames, withAdmin } from '../../../src/pipeline/kafka/topics.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { Pipeline } from '../../support/pipeline.ts';
import type { Program } from '../../support/program.ts';
import { isolate } from '../../support/servers.ts';

/*
 * P6 on the whole path: what Elasticsearch or Kafka refuses is kept with its cause and sent again, and nothing goes back
 * in time. One story; each test goes on where the one before ended.
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
let db: pg.Client;
let tenant: string;
let month: string;
let run: Program;

/** When the oldest open letter was parked, as `status` has it. */
const oldest = async (): Promise<string> => JSON.parse(await pipeline.verb(['status', '--json'])).letters.value.groups[0].oldestOpen as string;
interface List { open: number; groups: { cause: string; table: string; open: number; accepted: number; redriven: number }[]; letters: { id: string; cause: string; rowId: string; attempts: number }[] }
const list = async (...more: string[]): Promise<List> => JSON.parse(await pipeline.verb(['dlq', 'list', '--json', ...more])) as List;
const redrive = async (code: number, ...more: string[]): Promise<Record<string, number>> => JSON.parse(await pipeline.verb(['dlq', 'redrive', '--json', ...more], code)) as Record<string, number>;
const elastic = async (method: string, path: string, body?: object): Promise<number> =>
  (await fetch(`${here.elasticsearchUrl}${path}`, { method, ...(body ? { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } } : {}) })).status;
/** The topic's limit; the program leaves 256 KiB of it free for what is around a record. */
const takeAtMost = (bytes: number): Promise<unknown> => {
  const name = topicNames(here.topicPrefix).table.workflow_node_executions;
  const kafka = createKafka({ brokers: here.brokers, clientId: 'test' }, pino({ level: 'silent' }));
  return withAdmin(kafka, 'alter', (admin) => admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name, configEntries: [{ name: 'max.message.bytes', value: String(bytes) }, { name: 'cleanup.policy', value: 'compact' }] }] }));
};
/** A row like the first one, with some columns of its own. */
const copyOf = (table: string, columns: string): string => `INSERT INTO ${table} SELECT (jsonb_populate_record(NULL::${table}, to_jsonb(n) || jsonb_build_object(${columns}))).* FROM ${table} n ORDER BY n.id LIMIT 1`;
const count = async (sql: string, values: unknown[] = []): Promise<number> => Number((await db.query<{ n: string }>(sql, values)).rows[0]!.n);

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  const { tenants } = await loadDataset(db, { seed: 21, tenants: 1, runs: 40, nodesPerRun: 2, months: ['2026-07', '2026-08'] });
  tenant = tenants[0]!;
  month = `${here.indexPrefix}-workflow-runs-${tenant}-2026.07`;
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

describe('dead letters', () => {
  it('keep what Elasticsearch refuses, with cause, key and version, and show no value unless asked', async () => {
    await pipeline.verb(['setup']);
    const began = new Date().toISOString();
    // a month whose index somebody made by hand, with a type that no run fits
    expect(await elastic('PUT', `/${month}`, { mappings: { properties: { status: { type: 'integer' } } } })).toBe(200);
    run = await pipeline.start('run');
    await pipeline.verb(['migrate']);
    await pipeline.drained();
    const rows = await count(`SELECT count(*) AS n FROM workflow_runs WHERE created_at >= '2026-07-01' AND created_at < '2026-08-01'`);
    expect(rows).toBeGreaterThan(8);
    const found = await list();
    expect(found.groups).toEqual([expect.objectContaining({ cause: 'refused', table: 'workflow_runs', open: rows, accepted: 0, redriven: 0 })]);
    const { id, rowId } = found.letters[0]!;
    const shown = await pipeline.verb(['dlq', 'show', id, '--json']);
    expect(JSON.parse(shown)).toMatchObject({ id, cause: 'refused', state: 'open', table: 'workflow_runs', key: { id: rowId, tenantId: tenant }, origin: { stage: 'sink' } });
    const { version: name } = (await db.query<{ version: string }>('SELECT version FROM workflow_runs WHERE id = $1', [rowId])).rows[0]!;
    expect(shown).not.toContain('triggered_from');
    expect(JSON.parse(await pipeline.verb(['dlq', 'show', id, '--value', '--json']))).toMatchObject({ value: { id: rowId, version: name } });
    await pipeline.verb(['dlq', 'show', '0:999999'], 2);
    const inOrder = [began, await oldest(), new Date().toISOString()];
    expect([...inOrder].sort()).toEqual(inOrder);
    expect(await pipeline.verb(['status'])).toMatch(/oldest open[^]*refused.* \d+ s/);
  });

  it('stay, with their attempts counted, when they are refused again', async () => {
    const { open } = await list();
    const parked = await oldest();
    expect(await redrive(1)).toMatchObject({ seen: open, failed: open, applied: 0 });
    const after = await list();
    expect(after.open).toBe(open);
    expect(after.letters.map(({ attempts }) => attempts)).toEqual(after.letters.map(() => 1));
    expect(await oldest()).toBe(parked);
  });

  it('never take a document back in time, nor bring a deleted one back after Elasticsearch has forgotten the delete', async () => {
    const ids = (await db.query<{ id: string }>(`SELECT id FROM workflow_runs WHERE created_at >= '2026-07-01' AND created_at < '2026-08-01' ORDER BY id`)).rows.map((row) => row.id);
    const [deleted, updated, moved, replaced] = ids;
    // the index is mended: it is made anew from the template
    expect(await elastic('DELETE', `/${month}`)).toBe(200);
    await db.query(`UPDATE workflow_runs SET status = 'stopped', error = 'later' WHERE id = $1`, [updated]);
    await pipeline.drained();
    expect(await elastic('PUT', `/${month}/_settings`, { 'index.gc_deletes': '0s' })).toBe(200);
    await db.query('DELETE FROM workflow_runs WHERE id = $1', [deleted]);
    await db.query(`UPDATE workflow_runs SET created_at = created_at + interval '1 month' WHERE id = $1`, [moved]);
    await db.query('BEGIN; CREATE TEMP TABLE again ON COMMIT DROP AS SELECT * FROM workflow_runs; DELETE FROM workflow_runs WHERE id = ' + `'${replaced}'` + '; INSERT INTO workflow_runs SELECT * FROM again WHERE id = ' + `'${replaced}'` + '; COMMIT');
    await pipeline.drained();
    const planned = await redrive(0, '--dry-run');
    expect(planned).toMatchObject({ seen: ids.length, gone: 1, moved: 1 });
    expect((await list()).open).toBe(ids.length);
    expect(await redrive(0)).toMatchObject({ seen: ids.length, gone: 1, moved: 1, stale: 2, applied: ids.length - 4, failed: 0 });
    expect(await pipeline.equal()).toBeGreaterThan(100);
    expect(await elastic('HEAD', `/${month}/_doc/${deleted}`)).toBe(404);
    expect(await list()).toMatchObject({ open: 0, groups: [{ redriven: ids.length }] });
    expect(await redrive(0)).toMatchObject({ seen: 0 });
  });

  it('read rows beyond Kafka\'s limit again from PostgreSQL, once Kafka takes them, and park none twice', async () => {
    await run.stop();
    await takeAtMost(600_000);
    run = await pipeline.start('run');
    const [small, large] = [randomUUID(), randomUUID()];
    const copy = copyOf('workflow_node_executions', `'id', $1::text, 'outputs', $2::text`);
    await db.query(copy, [small, '{"a":1}']);
    await db.query(copy, [large, JSON.stringify({ text: randomBytes(300_000).toString('hex') })]);
    await pipeline.drained();
    expect(await list()).toMatchObject({ open: 1, letters: [{ cause: 'row-too-large', rowId: large, attempts: 0 }] });
    expect(await redrive(1, '--cause', 'row-too-large')).toMatchObject({ seen: 1, failed: 1 });
    expect(await list()).toMatchObject({ open: 1, letters: [{ rowId: large, attempts: 1 }] });
    await takeAtMost(22 * 1024 * 1024);
    // killed before and after its Kafka transaction is committed, it is done by the next one
    for (const point of ['backfill.produce-acknowledged', 'backfill.transaction-committed'] as const) {
      const killed = pipeline.spawn(['dlq', 'redrive'], { crashAt: { point } });
      expect((await killed.ended).signal, killed.describe()).toBe('SIGKILL');
      expect((await list()).open).toBe(1);
    }
    expect(await redrive(0)).toMatchObject({ seen: 1, reread: 1 });
    await pipeline.equal();
    expect((await list()).open).toBe(0);
  });

  it('are accepted with a reason, and validate counts their rows so', async () => {
    const id = randomUUID();
    await db.query(copyOf('workflow_app_logs', `'id', $1::text, 'created_at', 'infinity'`), [id]);
    await pipeline.drained();
    const [letter] = (await list('--cause', 'no-month')).letters;
    expect(letter).toMatchObject({ cause: 'no-month', rowId: id });
    await pipeline.verb(['dlq', 'accept', letter!.id], 2);
    await pipeline.verb(['dlq', 'accept', letter!.id, '--why', 'a test row']);
    expect(await list()).toMatchObject({ open: 0 });
    // parked once more, and still no question
    await pipeline.verb(['migrate', '--data-type', 'app_logs']);
    await pipeline.drained();
    expect((await list('--cause', 'no-month')).groups).toMatchObject([{ open: 0, accepted: 2 }]);
    const report = JSON.parse(await pipeline.verb(['validate', '--full', '--json'])) as object;
    expect(report).toMatchObject({ verdict: 'equal', apart: { accepted: 1 } });
  });

  it('of a truncated table are written, since its history stays, but none that was deleted before', async () => {
    const september = `${here.indexPrefix}-workflow-app-logs-${tenant}-2026.09`;
    expect(await elastic('PUT', `/${september}`, { mappings: { properties: { created_from: { type: 'integer' } } } })).toBe(200);
    const [kept, deleted] = [randomUUID(), randomUUID()];
    for (const id of [kept, deleted]) await db.query(copyOf('workflow_app_logs', `'id', $1::text, 'created_at', '2026-09-05 10:00:00'`), [id]);
    await db.query('DELETE FROM workflow_app_logs WHERE id = $1', [deleted]);
    await pipeline.drained();
    const refused = (await list('--cause', 'refused')).letters.map(({ rowId }) => rowId);
    expect(refused).toContain(kept);
    expect(await elastic('DELETE', `/${september}`)).toBe(200);
    // the reader comes to the TRUNCATE after the redrive has looked at the rows
    await run.stop();
    await db.query('TRUNCATE workflow_app_logs');
    const [report] = await Promise.all([redrive(0), pipeline.start('run').then((started) => (run = started))]);
    expect(report).toMatchObject({ seen: refused.length, applied: 1, stale: refused.length - 1 });
    expect(await elastic('HEAD', `/${september}/_doc/${kept}`)).toBe(200);
    expect(await elastic('HEAD', `/${september}/_doc/${deleted}`)).toBe(404);
  });

  it('refuse what they do not know, all faults at once', async () => {
    const program = pipeline.spawn(['dlq', 'accept', 'nonsense', '--cause', 'nothing', '--value', '--bogus']);
    expect((await program.ended).code).toBe(2);
    for (const fault of ['"nonsense" is no letter', '--why', '"nothing" is none of', '--value goes with show', 'unknown flag --bogus']) expect(program.describe(40)).toContain(fault);
  });
});
