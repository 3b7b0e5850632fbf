import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadConfig, parseEnvFile, readEnvironment, requireEnabled } from '../../src/config/config.ts';
import { envExample } from '../../src/config/env-example.ts';
import { allOptions } from '../../src/config/options.ts';
import { DifyEsError } from '../../src/core/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'dify-es-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** The lines of CONFIG_INVALID. */
function faultsOf(env: Record<string, string>): string[] {
  try {
    loadConfig(env);
  } catch (error) {
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', exitCode: 2 });
    return (error as DifyEsError).message.split('\n');
  }
  return [];
}

const SECRET = 'hunter2-very-secret';

describe('.env.example', () => {
  test('it is what the options say', () => {
    expect(readFileSync(join(import.meta.dirname, '../../.env.example'), 'utf8')).toBe(envExample());
  });

  test('it is a configuration without faults, and changes no default', () => {
    expect(loadConfig(parseEnvFile(envExample()))).toEqual(loadConfig({}));
  });

  test('every variable has a line of words before it', () => {
    const lines = envExample().split('\n');
    for (const { option } of allOptions()) expect(lines[lines.findIndex((line) => line.startsWith(`${option.env}=`)) - 1]).toMatch(/^# \S.{10}/);
  });
});

describe('faults', () => {
  test('the console is not opened to other machines without a token of some length', () => {
    expect(faultsOf({ CONSOLE_HOST: '127.0.0.1' })).toEqual([]);
    expect(faultsOf({ CONSOLE_HOST: '::1' })).toEqual([]);
    for (const host of ['0.0.0.0', '::', '10.0.0.5', 'my-host', '127.0.0.1.example']) expect(faultsOf({ CONSOLE_HOST: host })).toEqual([expect.stringContaining('CONSOLE_TOKEN_FILE')]);
    expect(faultsOf({ CONSOLE_HOST: '0.0.0.0', CONSOLE_TOKEN: 'x'.repeat(16) })).toEqual([]);
    expect(faultsOf({ CONSOLE_TOKEN: 'short-and-secret'.slice(1) })).toEqual(['CONSOLE_TOKEN is shorter than 16 characters']);
  });

  test('all of them are reported together, each with its variable', () => {
    const faults = faultsOf({ DB_PORT: 'x', KAFKA_PARTITIONS: '0', ELASTICSEARCH_ENABLED: 'maybe', KAFKA_BROKERS: 'nowhere', ELASTICSEARCH_INDEX_PREFIX: 'Dify*', LOG_LEVEL: 'loud', WAL_BUDGET: 'much', CDC_SLOT: 'my-slot' });
    for (const name of ['DB_PORT', 'KAFKA_PARTITIONS', 'ELASTICSEARCH_ENABLED', 'KAFKA_BROKERS', 'ELASTICSEARCH_INDEX_PREFIX', 'LOG_LEVEL', 'WAL_BUDGET', 'CDC_SLOT']) {
      expect(faults.filter((line) => line.startsWith(name))).toHaveLength(1);
    }
    expect(faults).toHaveLength(8);
  });

  test('a file that cannot be read is named', () => {
    expect(faultsOf({ ELASTICSEARCH_CA_CERTS: '/nowhere/ca.pem', DB_PASSWORD_FILE: '/nowhere/secret' })).toEqual([
      'DB_PASSWORD_FILE names a file that cannot be read: /nowhere/secret',
      'ELASTICSEARCH_CA_CERTS names a file that cannot be read: /nowhere/ca.pem',
    ]);
  });

  test('a CA file that holds no certificate is one, for each server', () => {
    const path = file('no-ca.pem', 'a host name');
    const names = ['ELASTICSEARCH_CA_CERTS', 'DB_SSL_CA', 'KAFKA_SSL_CA'];
    expect(faultsOf(Object.fromEntries(names.map((name) => [name, path])))).toEqual(names.map((name) => `${name} names a file without a PEM certificate: ${path}`));
  });

  test('SASL without a user is one', () => {
    expect(faultsOf({ KAFKA_SASL_MECHANISM: 'plain' })).toEqual([expect.stringContaining('KAFKA_SASL_USERNAME')]);
  });

  test('the verbs that write refuse until they are enabled', () => {
    expect(() => requireEnabled(loadConfig({}))).toThrow(expect.objectContaining({ code: 'DISABLED' }));
    expect(() => requireEnabled(loadConfig({ ELASTICSEARCH_ENABLED: 'True' }))).not.toThrow();
  });
});

describe('hosts', () => {
  const hosts = (text: string, more: Record<string, string> = {}): readonly string[] => loadConfig({ ELASTICSEARCH_HOSTS: text, ...more }).elasticsearch.nodes;

  test('a list is read with its quotes, without those that a shell eats, and as a bare list', () => {
    for (const text of ['["http://a:9200", "http://b:9200"]', '[http://a:9200,http://b:9200]', 'http://a:9200, http://b:9200', "['http://a:9200','http://b:9200']"]) {
      expect(hosts(text)).toEqual(['http://a:9200', 'http://b:9200']);
    }
  });

  test('the scheme follows ELASTICSEARCH_USE_SSL where it has to', () => {
    expect(hosts('a:9200')).toEqual(['http://a:9200']);
    expect(hosts('a:9200', { ELASTICSEARCH_USE_SSL: 'true' })).toEqual(['https://a:9200']);
    expect(hosts('http://a:9200', { ELASTICSEARCH_USE_SSL: 'true' })).toEqual(['https://a:9200']);
    expect(hosts('https://a:9200')).toEqual(['https://a:9200']);
  });

  test('what is no host, and another scheme, are faults', () => {
    for (const text of ['[]', 'http://', 'ftp://a:9200', 'a b']) expect(faultsOf({ ELASTICSEARCH_HOSTS: text })).toHaveLength(1);
  });
});

describe('secrets', () => {
  test('none is named in a fault, wherever it was written', () => {
    const faults = faultsOf({
      ELASTICSEARCH_HOSTS: `["http://elastic:${SECRET}@a:9200"]`,
      DATABASE_URL: `mysql://u:${SECRET}@h/db`,
      KAFKA_BROKERS: `user:${SECRET}@a:9092`,
      DB_SSL_MODE: `x@${SECRET}`,
      KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_PASSWORD: SECRET,
      DB_PASSWORD: SECRET, DB_PASSWORD_FILE: file('both', SECRET),
    });
    expect(faults).toHaveLength(6);
    expect(faults.join('\n')).not.toContain('hunter2');
  });

  test('a host that names a user is refused with the place where the password belongs', () => {
    for (const host of [`http://elastic:${SECRET}@a:9200`, `elastic:${SECRET}@a:9200`, `[https://${SECRET}@a]`]) {
      expect(faultsOf({ ELASTICSEARCH_HOSTS: host })).toEqual(['ELASTICSEARCH_HOSTS names a user: give ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD instead']);
    }
  });

  test('each can come from a file, without the line break at its end', () => {
    const secrets = allOptions().filter(({ option }) => option.secret && option.env !== 'DATABASE_URL');
    expect(secrets.map(({ option }) => option.env)).toEqual(['ELASTICSEARCH_PASSWORD', 'ELASTICSEARCH_API_KEY', 'DB_PASSWORD', 'KAFKA_SASL_PASSWORD', 'CONSOLE_TOKEN']);
    const env = Object.fromEntries(secrets.map(({ option }) => [`${option.env}_FILE`, file(option.env, ` ${SECRET} ${option.env}\n`)]));
    const config = loadConfig(env);
    expect([config.elasticsearch.password, config.elasticsearch.apiKey, config.postgres.password, config.kafka.saslPassword, config.program.consoleToken]).toEqual(secrets.map(({ option }) => ` ${SECRET} ${option.env}`));
  });

  test('a secret that is given twice is a fault', () => {
    expect(faultsOf({ DB_PASSWORD: 'a', DB_PASSWORD_FILE: file('twice', 'b') })).toEqual(['DB_PASSWORD and DB_PASSWORD_FILE are both set']);
  });
});

describe('DATABASE_URL', () => {
  const postgres = (url: string, more: Record<string, string> = {}) => loadConfig({ DATABASE_URL: url, ...more }).postgres;

  test('it counts instead of the five variables, decoded', () => {
    expect(postgres('postgresql+psycopg2://us%40er:p%2Fw%3A%C3%A4@db.example:6432/di%66y', { DB_HOST: 'other', DB_PASSWORD: 'other' })).toMatchObject({ host: 'db.example', port: 6432, username: 'us@er', password: 'p/w:ä', database: 'dify' });
  });

  test('what it leaves out comes from them', () => {
    expect(postgres('postgres://db.example', { DB_PORT: '6000', DB_USERNAME: 'me', DB_DATABASE: 'mine' })).toMatchObject({ host: 'db.example', port: 6000, username: 'me', database: 'mine' });
  });

  test('it can come from a file', () => {
    expect(loadConfig({ DATABASE_URL_FILE: file('url', 'postgres://a:b@c:1/d\n') }).postgres).toMatchObject({ host: 'c', port: 1, password: 'b' });
  });

  test('what is no such URL is a fault', () => {
    for (const url of ['db.example', 'mysql://a/b', 'postgres://[']) expect(faultsOf({ DATABASE_URL: url })).toEqual([expect.stringMatching(/^DATABASE_URL is no URL like/)]);
  });

  test('its sslmode counts, and what else it asks for is not passed over in silence', () => {
    expect(postgres('postgres://h/db?sslmode=require')).toMatchObject({ sslMode: 'require', database: 'db' });
    expect(postgres('postgres://[::1]:5433/db')).toMatchObject({ host: '::1', port: 5433, sslMode: 'disable' });
    expect(faultsOf({ DATABASE_URL: 'postgres://h/db?sslmode=prefer' })).toEqual([expect.stringContaining('sslmode')]);
    expect(faultsOf({ DATABASE_URL: `postgres://h/db?options=-c%20x&password=${SECRET}` })).toEqual(['DATABASE_URL has parameters that are not known here: options, password']);
  });

  test('an escape that is none is a fault and no crash', () => {
    expect(faultsOf({ DATABASE_URL: 'postgres://u:50%@h/db' })).toEqual([expect.stringMatching(/^DATABASE_URL /)]);
  });
});

describe('.env', () => {
  test('export, quotes, blanks and remarks are read as a shell would', () => {
    expect(parseEnvFile(`# remark\nexport A=1\nB = "two words" # why\nC='x#y'\nD=z # why\nE=\nF="a\\"b"\n\nnot a line\r\nG=crlf\r\n`)).toEqual({ A: '1', B: 'two words', C: 'x#y', D: 'z', E: '', F: 'a\\"b', G: 'crlf' });
  });

  test('what the shell set counts more', () => {
    const path = file('.env', 'DB_HOST=file\nDB_PORT=1\n');
    expect(readEnvironment({ DB_HOST: 'shell' }, path)).toEqual({ DB_HOST: 'shell', DB_PORT: '1' });
    expect(readEnvironment({ DB_HOST: 'shell' }, join(folder, 'none'))).toEqual({ DB_HOST: 'shell' });
  });
});

test('sizes are powers of 1024, as PostgreSQL has them', () => {
  const budget = (text: string): number => loadConfig({ WAL_BUDGET: text }).postgres.walBudget;
  expect(['0', '512', '1kB', '2 MB', '3GB', '1TB'].map(budget)).toEqual([0, 512, 1024, 2 * 1024 ** 2, 3 * 1024 ** 3, 1024 ** 4]);
});
