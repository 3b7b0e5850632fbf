import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Client } from '@elastic/elasticsearch';
import type { Finding } from '../../../src/ops/check/finding.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { Pipeline } from '../../support/pipeline.ts';
import { isolate } from '../../support/servers.ts';
import { open, sourceShape } from '../support/source.ts';

/** The verb on the real servers. One story; each test goes on where the one before ended. */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2', WAL_BUDGET: '1GB' });
const PASSWORD = 'a-password-that-must-not-show';
let db: pg.Client;

beforeAll(async () => {
  db = await open(here.postgresUrl);
  await createDifySchema(db, { release: '1.8.1' });
  await db.query('ALTER TABLE workflow_runs ADD COLUMN added_by_somebody text');
});
afterAll(async () => {
  await pipeline.killAll();
  await db.end();
});

interface Answer {
  readonly ok: boolean;
  readonly servers: readonly { server: string; reached: boolean; findings: readonly Finding[] }[];
}

async function check(expectedCode: number, env: Record<string, string> = {}): Promise<Answer & { find(level: string): string[]; message(subject: string): string }> {
  const text = await pipeline.verb(['check', '--json'], expectedCode, env);
  expect(text).not.toContain(PASSWORD);
  const answer = JSON.parse(text) as Answer;
  const all = answer.servers.flatMap(({ findings }) => findings);
  for (const { level, cure } of all) expect(cure === null).toBe(level === 'ok');
  return { ...answer, find: (level) => all.filter((finding) => finding.level === level).map(({ subject }) => subject), message: (subject) => all.find((finding) => finding.subject === subject)?.message ?? '' };
}

describe('check', () => {
  test('before setup it says what setup will do, finds nothing in the way, and changes nothing', async () => {
    const before = await sourceShape(db, here);
    const answer = await check(0, { ELASTICSEARCH_ENABLED: 'false' });
    expect(answer.find('fail')).toEqual([]);
    expect(answer.find('warn')).toEqual(expect.arrayContaining(['publication', 'slot', 'topics', 'templates', 'identity workflow_runs']));
    expect(answer.message('tables')).toContain('no workflow_node_execution_offload');
    expect(answer.message('table workflow_runs')).toContain('added_by_somebody carried');
    expect(await sourceShape(db, here)).toEqual(before);
  });

  test('WAL without any limit is in the way', async () => {
    expect((await check(1, { WAL_BUDGET: '0' })).find('fail')).toEqual(['WAL limit']);
  });

  test('after setup only the reader is missing, and a limit that holds without it', async () => {
    await pipeline.verb(['setup']);
    const answer = await check(0);
    expect(answer.find('warn').filter((subject) => !['disk', 'health', 'shards'].includes(subject))).toEqual(['slot', 'WAL limit']);
  });

  test('what somebody broke is found, each with its cure', async () => {
    await db.query('DROP INDEX dify_es_identity_workflow_app_logs');
    await db.query(`ALTER PUBLICATION ${here.publication} DROP TABLE workflow_runs`);
    const client = new Client({ node: here.elasticsearchUrl });
    await client.indices.deleteIndexTemplate({ name: `${here.indexPrefix}-cdc-workflow-runs-template` });
    await client.indices.putIndexTemplate({ name: `${here.indexPrefix}-theirs`, index_patterns: [`${here.indexPrefix}-workflow-*`], priority: 9000, template: {} });
    await client.close();
    const answer = await check(1, { KAFKA_REPLICATION_FACTOR: '3', KAFKA_PARTITIONS: '5' });
    expect(answer.find('fail').sort()).toEqual(['brokers', 'identity workflow_app_logs', 'other templates', 'publication', 'templates']);
    expect(answer.find('warn')).toContain('partitions');
  });

  test('a server that is away takes nothing from the others, and is exit 3', async () => {
    for (const [server, env] of Object.entries({ postgresql: { DB_PORT: '1' }, kafka: { KAFKA_BROKERS: '127.0.0.1:1' }, elasticsearch: { ELASTICSEARCH_HOSTS: 'http://127.0.0.1:1' } })) {
      const answer = await check(3, env);
      expect(answer.servers.filter(({ reached }) => !reached).map((one) => one.server)).toEqual([server]);
      expect(answer.servers.filter(({ findings }) => findings.length > 4)).toHaveLength(2);
    }
  });

  test('a wrong password is one line with its cure', async () => {
    const answer = await check(1, { DB_PASSWORD: PASSWORD });
    expect(answer.servers[0]).toMatchObject({ reached: true, findings: [{ level: 'fail', subject: 'connection', cure: expect.stringContaining('DB_PASSWORD') as unknown }] });
  });

  test('for a person it marks what is in the way', async () => {
    const text = await pipeline.verb(['check', '--quiet'], 1);
    expect(text).toMatch(/FAIL {2}identity workflow_app_logs: .*\n {8}→ Run dify-es setup at once\./);
    expect(text).not.toContain('ok  ');
  });
});
