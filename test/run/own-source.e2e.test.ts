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
 * A configuration that names another schema, another database or a role without rights is said so. A missing table is
 * no error elsewhere, so a backfill of nothing would settle what is required, and the look at a row would call it deleted.
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
const ROLE = `${here.slot}_weak`;
let db: pg.Client;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  await db.query('CREATE SCHEMA empty');
  await db.query(`CREATE ROLE ${ROLE} LOGIN PASSWORD 'weak'`);
  await pipeline.verb(['setup']);
  await (await pipeline.start('run')).stop();
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.query(`DROP ROLE IF EXISTS ${ROLE}`);
  await db?.end();
});

async function answer(line: string, env: Record<string, string>): Promise<string> {
  const { verb, config, options } = readCommandLine(line.split(' '), () => ({ ...pipeline.env, ...env }), VERBS)!;
  try {
    return String(await verb.run({ config, out: createOutput(true, () => undefined), log: pino({ level: 'silent' }), signal: new AbortController().signal }, options));
  } catch (error) {
    if (!(error instanceof DifyEsError)) throw error;
    return `${error.exitCode} ${error.code}: ${error.message}`;
  }
}

it.each(['migrate', 'migrate --data-type offload', 'validate --full', 'validate --full --repair --delete-extra', 'dlq redrive', 'cleanup-pg --tenant-id 8686cdbd-c784-4f0d-954f-32b1e60af12d --before-date 2020-01-01'])('%s in a schema without Dify\'s tables is refused, and settles nothing', async (line) => {
  expect(await answer(line, { DB_SCHEMA: 'empty' })).toMatch(/^2 CONFIG_INVALID: no table of Dify is in schema empty of database /);
  const status = JSON.parse(await pipeline.verb(['status', '--json'])) as { state: { value: { required: unknown[] } } };
  expect(status.state.value.required).toHaveLength(4);
});

it.each(['migrate', 'validate --full', 'validate --full --repair --delete-extra', 'dlq redrive'])('%s of another database than that of the slot is refused', async (line) => {
  expect(await answer(line, { DB_DATABASE: 'postgres' })).toBe(`2 CONFIG_INVALID: the slot ${here.slot} belongs to database ${here.database}, not to postgres: check DB_DATABASE and CDC_SLOT`);
});

it('migrate by a role that may not read says whose right is missing', async () => {
  expect(await answer('migrate', { DB_USERNAME: ROLE, DB_PASSWORD: 'weak' })).toMatch(/^2 PG_RIGHTS: PostgreSQL: permission denied for table /);
});
