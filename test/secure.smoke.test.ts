import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@elastic/elasticsearch';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { freePort } from '../scripts/local/ports.ts';
import { rightsNeeded } from '../src/ops/check/elasticsearch/facts.ts';
import { edgeCaseRows } from './support/dify/edge-cases.ts';
import { insertRows } from './support/dify/copy.ts';
import { loadDataset } from './support/dify/generator.ts';
import { createDifySchema, DIFY_TABLES } from './support/dify/schema.ts';
import { listenExpired, type Expired } from './support/expired.ts';
import { runOracle } from './support/oracle/oracle.ts';
import type { OracleReport } from './support/oracle/oracle.ts';
import { settingsFrom } from './support/oracle/settings.ts';
import { READY } from './support/pipeline.ts';
import { Program } from './support/program.ts';
import { ownServers } from './support/servers.ts';

/*
 * The whole path once on the older releases, every connection with TLS and a password: what the other tests, on the
 * newest releases without either, cannot see. Then each credential and certificate wrong, one after another.
 */
const own = ownServers();
const folder = mkdtempSync(join(tmpdir(), 'dify-es-secure-'));
/** Far above what it takes: three servers of its own start here, on whatever else the machine does. */
const LIMIT_MS = 900_000;
let env: Record<string, string> = {};
let client: pg.Client;
let running: Program;
let metrics = '';
const expired: Expired[] = [];
/** What the program said in all of this, for the search for secrets. */
const said: string[] = [];
const keys: string[] = [];

beforeAll(async () => {
  const servers = await Promise.all([own.postgres({ version: '15', secure: true }), own.kafka({ secure: true }), own.elasticsearch({ version: '8', secure: true })]);
  const port = await freePort();
  metrics = `http://127.0.0.1:${port}/metrics`;
  env = { ...Object.assign({}, ...servers.map((server) => server.env)) as Record<string, string>, ELASTICSEARCH_INDEX_REFRESH: '1s', LOG_LEVEL: 'debug' };
  client = new pg.Client({ connectionString: servers[0].url });
  await client.connect();
  await createDifySchema(client);
  await loadDataset(client, { seed: 7, tenants: 2, runs: 60, months: ['2026-07', '2026-08'] });
  await verb('setup');
  running = new Program({ ...env, METRICS_PORT: String(port) }, ['run']);
  for (const line of READY['run']!) await running.said(line, 240_000);
}, LIMIT_MS);

afterAll(async () => {
  await running?.kill9();
  await client?.end();
  for (const one of expired) one.close();
});

interface Answer {
  readonly code: number | null;
  readonly stdout: string;
  /** Standard error without the lines of the log. */
  readonly fault: string[];
}

async function answer(args: readonly string[], more: Record<string, string> = {}): Promise<Answer> {
  const program = new Program({ ...env, ...more }, args);
  const { code } = await program.ended;
  said.push(program.stdout, ...program.stderr);
  return { code, stdout: program.stdout, fault: program.stderr.filter((line) => line !== '' && !line.startsWith('{')) };
}

async function verb(...args: string[]): Promise<string> {
  const { code, stdout, fault } = await answer(args);
  expect(code, `${args.join(' ')}: ${fault.join('\n')}`).toBe(0);
  return stdout;
}

async function compare(): Promise<OracleReport> {
  return runOracle({ ...settingsFrom(env), list: 5 });
}

describe('PostgreSQL 15, Kafka and Elasticsearch 8 with TLS and passwords', () => {
  it('hold the same after setup, run and migrate, and after further writes', async () => {
    await verb('migrate');
    const moved = { timeout: 240_000, interval: 1_000 };
    await expect.poll(compare, moved).toMatchObject({ equal: true, tables: { workflow_runs: { equal: 60 }, workflow_node_executions: { equal: 300 } } });

    const { rows } = edgeCaseRows({ largest: 100_000 });
    for (const table of DIFY_TABLES) await insertRows(client, table, rows[table]);
    await client.query("update workflow_runs set status = 'stopped' where status = 'succeeded'");
    await client.query('delete from workflow_app_logs where id in (select id from workflow_app_logs limit 7)');
    await expect.poll(compare, moved).toMatchObject({ equal: true, differences: [] });
  }, LIMIT_MS);

  it('take their passwords from files', async () => {
    const file = (name: string, text: string): string => {
      writeFileSync(join(folder, name), `${text}\n`, { mode: 0o600 });
      return join(folder, name);
    };
    const secrets = { DB_PASSWORD: '', KAFKA_SASL_PASSWORD: '', ELASTICSEARCH_PASSWORD: '' };
    const files = Object.fromEntries(Object.keys(secrets).map((name) => [`${name}_FILE`, file(name, env[name]!)]));
    expect(await answer(['validate', '--full'], { ...secrets, ...files })).toMatchObject({ code: 0 });
    const url = file('url', `postgresql+psycopg2://${env['DB_USERNAME']}:${encodeURIComponent(env['DB_PASSWORD']!)}@127.0.0.1:${env['DB_PORT']}/${env['DB_DATABASE']}?sslmode=verify-full`);
    expect(await answer(['migrate', '--dry-run'], { DB_PASSWORD: '', DB_HOST: '', DATABASE_URL_FILE: url })).toMatchObject({ code: 0 });
  });
});

describe('an API key of Elasticsearch', () => {
  const security = async <T>(method: string, path: string, body: object): Promise<T> => {
    const elastic = new Client({ node: JSON.parse(env['ELASTICSEARCH_HOSTS']!)[0], auth: { username: env['ELASTICSEARCH_USERNAME']!, password: env['ELASTICSEARCH_PASSWORD']! }, tls: { ca: readFileSync(env['ELASTICSEARCH_CA_CERTS']!) } });
    try {
      return await elastic.transport.request<T>({ method, path, body });
    } finally {
      await elastic.close();
    }
  };
  /** As the operator's guide has it, for another prefix. */
  const guide = readFileSync(join(import.meta.dirname, '../docs/05-operations.md'), 'utf8');
  const documented = JSON.parse(/_security\/api_key .* -d '(.*?)'/s.exec(guide)![1]!.replace('dify-*', 'keyed-*')).role_descriptors['dify-es'];
  const makeKey = (rights: object): Promise<{ id: string; encoded: string }> => security('POST', '/_security/api_key', { name: 'dify-es', role_descriptors: { 'dify-es': rights } });
  /** No user and no password beside it. */
  const withKey = (encoded: string): Record<string, string> => ({ ELASTICSEARCH_USERNAME: '', ELASTICSEARCH_PASSWORD: '', ELASTICSEARCH_API_KEY: encoded, ELASTICSEARCH_INDEX_PREFIX: 'keyed', KAFKA_CONSUMER_GROUP: 'keyed' });

  it('with the rights of the guide, and no more, is enough for what the guide names', async () => {
    expect(documented).toEqual({ cluster: rightsNeeded('keyed').cluster, indices: rightsNeeded('keyed').index });
    const { id, encoded } = await makeKey(documented);
    keys.push(encoded);
    const sink = new Program({ ...env, ...withKey(encoded) }, ['sink']);
    try {
      await sink.said('joined the consumer group', 240_000);
      await expect.poll(() => runOracle({ ...settingsFrom(env), prefix: 'keyed', list: 5 }), { timeout: 240_000, interval: 1_000 }).toMatchObject({ equal: true });
      const { rows: [of] } = await client.query<{ tenant: string }>('SELECT min(tenant_id::text) AS tenant FROM workflow_runs');
      for (const args of [['check'], ['setup'], ['status'], ['validate', '--full'], ['cutover', '--tenant-id', of!.tenant, '--prepare'], ['retention', '--tenant-id', of!.tenant, '--days', '1', '--yes']]) {
        const { code, fault } = await answer(args, withKey(encoded));
        // a no of these two is about the cluster and the dead letters of the hostile rows
        expect(['check', 'cutover'].includes(args[0]!) && code === 1 ? 0 : code, `${args.join(' ')}: ${fault.join('\n')}`).toBe(0);
        // Beside how far a comparison has come, which it says where it takes long.
        expect(fault.filter((line) => /^dify-es: |ES_RIGHTS|ES_AUTH|for lack of rights/.test(line))).toEqual([]);
      }
      said.push(...sink.stderr);
    } finally {
      await sink.kill9();
    }
    // 1: no run has the word; the key was taken
    expect(await answer(['search', 'word'], withKey(encoded))).toMatchObject({ code: 1, fault: [] });
    await security('DELETE', '/_security/api_key', { ids: [id] });
    const { code, fault } = await answer(['search', 'word'], withKey(encoded));
    expect([code, fault[0]]).toEqual([2, expect.stringContaining('refuses the credentials')]);
  }, LIMIT_MS);

  it('with less is told what is missing', async () => {
    const { encoded } = await makeKey({ cluster: ['monitor'], indices: [{ names: ['keyed-*'], privileges: ['read'] }] });
    keys.push(encoded);
    const { stdout } = await answer(['check'], withKey(encoded));
    expect(stdout).toMatch(/manage_index_templates/);
  });
});

const ELASTIC = ['search', 'word'];
const KAFKA = ['dlq', 'list'];
const POSTGRES = ['migrate', '--dry-run'];
type Case = readonly [what: string, args: readonly string[], env: Record<string, string> | (() => Promise<Record<string, string>>), code: number, fault: RegExp, cure: RegExp];

const atExpired = (protocol: Parameters<typeof listenExpired>[0], envOf: (expired: Expired) => Record<string, string>) => async (): Promise<Record<string, string>> => {
  const one = await listenExpired(protocol);
  expired.push(one);
  return envOf(one);
};

describe('one line and its cure for', () => {
  test.each<Case>([
    ['a wrong password of Elasticsearch', ELASTIC, { ELASTICSEARCH_PASSWORD: 'falsch-1' }, 2, /refuses the credentials/, /ELASTICSEARCH_USERNAME and _PASSWORD/],
    ['an API key that there is not', ELASTIC, { ELASTICSEARCH_API_KEY: 'ZmFsc2NoOjI=' }, 2, /refuses the credentials/, /_API_KEY/],
    ['a certificate of Elasticsearch that nobody vouches for', ELASTIC, { ELASTICSEARCH_CA_CERTS: '' }, 2, /no TLS connection to Elasticsearch \(\w+\)/, /ELASTICSEARCH_CA_CERTS/],
    ['an expired certificate of Elasticsearch', ELASTIC, atExpired('tls', ({ port, caFile }) => ({ ELASTICSEARCH_HOSTS: `["https://127.0.0.1:${port}"]`, ELASTICSEARCH_CA_CERTS: caFile })), 2, /CERT_HAS_EXPIRED/, /certificate of the server is valid/],
    ['Elasticsearch asked without TLS', ELASTIC, async () => ({ ELASTICSEARCH_HOSTS: env['ELASTICSEARCH_HOSTS']!.replace('https:', 'http:'), ELASTICSEARCH_USE_SSL: 'false' }), 3, /Elasticsearch does not answer/, /ELASTICSEARCH_USE_SSL/],
    ['a wrong password of Kafka', KAFKA, { KAFKA_SASL_PASSWORD: 'falsch-3' }, 2, /Kafka: could not/, /KAFKA_SASL_MECHANISM/],
    ['a wrong mechanism of Kafka', KAFKA, { KAFKA_SASL_MECHANISM: 'plain' }, 2, /Kafka: could not/, /KAFKA_SASL_MECHANISM/],
    ['a certificate of Kafka that nobody vouches for', KAFKA, { KAFKA_SSL_CA: '' }, 2, /Kafka: could not .* \(\w+\)/, /KAFKA_SSL_CA/],
    ['an expired certificate of Kafka', KAFKA, atExpired('tls', ({ port, caFile }) => ({ KAFKA_BROKERS: `127.0.0.1:${port}`, KAFKA_SSL_CA: caFile })), 2, /CERT_HAS_EXPIRED/, /KAFKA_SSL_CA/],
    ['Kafka asked without TLS', KAFKA, { KAFKA_SSL: 'false' }, 3, /Kafka: could not/, /KAFKA_SSL/],
    ['a wrong password of PostgreSQL', POSTGRES, { DB_PASSWORD: 'falsch-4' }, 2, /28P01/, /DB_PASSWORD/],
    ['a certificate of PostgreSQL that nobody vouches for', POSTGRES, { DB_SSL_CA: '' }, 2, /PostgreSQL: .*certificate/, /DB_SSL_CA/],
    ['an expired certificate of PostgreSQL', POSTGRES, atExpired('postgres', ({ port, caFile }) => ({ DB_PORT: String(port), DB_SSL_CA: caFile })), 2, /certificate has expired/, /DB_SSL_CA/],
    ['PostgreSQL asked without TLS', POSTGRES, { DB_SSL_MODE: 'disable' }, 2, /28000/, /DB_SSL_MODE/],
    ['a CA file that is not there', POSTGRES, { DB_SSL_CA: '/no/such/file' }, 2, /DB_SSL_CA names a file that cannot be read/, /--help/],
  ])('%s', async (_what, args, given, code, fault, cure) => {
    const found = await answer(args, typeof given === 'function' ? await given() : given);
    expect(found, found.fault.join('\n')).toMatchObject({ code, stdout: '' });
    expect(found.fault).toHaveLength(2);
    expect(found.fault[0]).toMatch(fault);
    expect(found.fault[1]).toMatch(cure);
  });
});

describe('in the end', () => {
  it('no secret is in a log, an error, an answer, the metrics or the list of processes', async () => {
    for (const args of [['check', '--json'], ['status', '--json'], ['setup', '--print-sql', '--json'], ['cutover', '--all', '--json']]) await answer(args);
    const processes = readFileSync(`/proc/${running.pid}/cmdline`, 'utf8');
    const everything = [...said, running.stdout, ...running.stderr, await (await fetch(metrics)).text(), processes].join('\n');
    expect(everything).toContain('dify_es_');
    const secrets = [env['DB_PASSWORD']!, env['KAFKA_SASL_PASSWORD']!, env['ELASTICSEARCH_PASSWORD']!, 'falsch-1', 'ZmFsc2NoOjI=', 'falsch-3', 'falsch-4', ...keys];
    for (const secret of secrets) {
      expect(secret.length).toBeGreaterThan(5);
      for (const form of [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64')]) expect(everything.includes(form), `a secret of ${secret.length} characters`).toBe(false);
    }
  });

  it('run is left cleanly within 10 s of SIGTERM', async () => {
    // Otherwise it would give up and exit with 1.
    await running.stop();
  });
});
