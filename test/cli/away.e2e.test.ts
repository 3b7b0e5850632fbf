import type pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readCommandLine } from '../../src/cli/command-line.ts';
import { createOutput } from '../../src/cli/output.ts';
import { VERBS } from '../../src/cli/verbs.ts';
import { DifyEsError } from '../../src/core/errors.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { Pipeline } from '../support/pipeline.ts';
import { isolate } from '../support/servers.ts';

/*
 * A server that is away when a verb starts is exit 3, whichever server and verb; a verb that does not need that server
 * answers as ever. In this process, since sixty starts of the program would take minutes.
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
const T = '3017b959-75bc-4820-83f3-0b69943e00eb';
let db: pg.Client;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  await pipeline.verb(['setup']);
  await (await pipeline.start('run')).stop();
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

const LINES = [
  'check', 'status', 'setup', 'stream', 'sink', 'run', 'migrate', 'validate', `cutover --tenant-id ${T}`, 'cutover --all', `cleanup-pg --tenant-id ${T} --before-date 2025-01-01`, `trace workflow_runs ${T}`,
  'dlq list', 'replay --from-beginning --dry-run', 'retention --dry-run', 'migrate --dry-run', 'search word', 'setup --print-sql', 'teardown --print-sql', 'teardown',
] as const;
type Line = (typeof LINES)[number];

/** Not asked at all. `sink` would run for ever without PostgreSQL, which it does not need either. */
const NEEDS_NOT: Readonly<Record<string, readonly Line[]>> = {
  PostgreSQL: ['sink', 'dlq list', 'replay --from-beginning --dry-run', 'retention --dry-run', 'search word', 'setup --print-sql', 'teardown --print-sql'],
  Kafka: ['migrate --dry-run', 'search word', 'setup --print-sql', 'teardown --print-sql'],
  Elasticsearch: ['setup --print-sql', 'teardown --print-sql'],
};

/** The exit code, and under which code of ours. */
async function answer(line: Line, env: Record<string, string>): Promise<string> {
  const { verb, config, options } = readCommandLine(line.split(' '), () => ({ ...pipeline.env, ...env }), VERBS)!;
  const written: string[] = [];
  const context = { config, out: createOutput(true, (text) => void written.push(text)), log: pino({ level: 'silent' }), signal: new AbortController().signal };
  try {
    const code = await verb.run(context, options);
    expect(written, `${line} answers once`).toHaveLength(1);
    return String(code);
  } catch (error) {
    if (!(error instanceof DifyEsError)) throw error;
    expect(written, line).toEqual([]);
    return `${error.exitCode} ${error.code}`;
  }
}

it.each([
  ['PostgreSQL', 'PG_UNREACHABLE', { DB_HOST: '127.0.0.1', DB_PORT: '1' }],
  ['Kafka', 'KAFKA_UNREACHABLE', { KAFKA_BROKERS: '127.0.0.1:1' }],
  ['Elasticsearch', 'ES_UNREACHABLE', { ELASTICSEARCH_HOSTS: '["http://127.0.0.1:1"]' }],
])('without %s', async (server, code, env) => {
  const without = NEEDS_NOT[server]!;
  const asked = LINES.filter((line) => !(server === 'PostgreSQL' && line === 'sink'));
  const answers = await Promise.all(asked.map(async (line) => [line, await answer(line, env)] as const));
  for (const [line, found] of answers) {
    if (without.includes(line)) expect(found, line).toMatch(/^[01]$/);
    else expect(found, line).toBe(line === 'check' || line === 'status' ? '3' : `3 ${code}`);
  }
});
