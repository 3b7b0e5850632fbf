import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ElasticsearchVersion } from '../../../scripts/local/elasticsearch.ts';
import { checkConnection, lowerVersion, makeClient } from '../../../src/pipeline/sink/elastic-client.ts';
import type { ElasticSettings, ServerInfo } from '../../../src/pipeline/sink/elastic-client.ts';
import { ownServers } from '../../support/servers.ts';
import type { LocalServer } from '../../support/servers.ts';
import { Log, harness, newId } from './sink-harness.ts';

/**
 * Who gives no credentials may read indices and nothing else. (This server cannot store users or API keys: the index
 * they are kept in needs an analysis module that it lacks.)
 */
const ANONYMOUS = { 'xpack.security.authc.anonymous.roles': 'viewer', 'xpack.security.authc.anonymous.authz_exception': 'true' };

const servers = ownServers();
let server: LocalServer;
let good: ElasticSettings;
beforeAll(async () => {
  server = await servers.elasticsearch({ version: (process.env['DIFY_ES_TEST_ES'] ?? '9') as ElasticsearchVersion, secure: true, settings: ANONYMOUS });
  const { ELASTICSEARCH_USERNAME: username, ELASTICSEARCH_PASSWORD: password, ELASTICSEARCH_CA_CERTS: ca } = server.env;
  good = { nodes: [server.url], auth: { username: username!, password: password! }, tls: { ca: readFileSync(ca!, 'utf8'), rejectUnauthorized: true }, timeoutMs: 30_000, maxRetries: 0 };
});

async function check(more: Partial<ElasticSettings> = {}): Promise<ServerInfo> {
  const settings = { ...good, ...more };
  const client = makeClient(settings);
  afterAll(() => client.close());
  return checkConnection(client, settings);
}

describe('a connection', () => {
  test('tells who is there', async () => {
    const info = await check();
    expect(info.nodes).toBe(1);
    expect(info.version).toMatch(/^\d+\.\d+\.\d+/);
    expect(info.clusterName).not.toBe('');
  });

  test('without the right password is ES_AUTH', async () => {
    await expect(check({ auth: { username: 'elastic', password: 'wrong' } })).rejects.toMatchObject({ code: 'ES_AUTH', exitCode: 2 });
    await expect(check({ auth: { apiKey: 'd3Jvbmc6d3Jvbmc=' } })).rejects.toMatchObject({ code: 'ES_AUTH' });
  });

  test('with too few rights is ES_RIGHTS', () => expect(check({ auth: null })).rejects.toMatchObject({ code: 'ES_RIGHTS', exitCode: 2 }));

  test('whose certificate nobody vouches for is ES_TLS, unless that is not asked', async () => {
    await expect(check({ tls: { ca: null, rejectUnauthorized: true } })).rejects.toMatchObject({ code: 'ES_TLS', exitCode: 2 });
    expect(await check({ tls: { ca: null, rejectUnauthorized: false } })).toMatchObject({ nodes: 1 });
  });

  test('by TLS to a port without it is ES_TLS', async () => {
    const plain = createServer((socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n').on('error', () => undefined));
    await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve));
    afterAll(() => plain.close());
    await expect(check({ nodes: [`https://127.0.0.1:${(plain.address() as AddressInfo).port}`] })).rejects.toMatchObject({ code: 'ES_TLS' });
  });

  test('to nobody is ES_UNREACHABLE', async () => {
    const shut = createServer();
    await new Promise<void>((resolve) => shut.listen(0, '127.0.0.1', resolve));
    const { port } = shut.address() as AddressInfo;
    await new Promise((resolve) => shut.close(resolve));
    for (const scheme of ['http', 'https']) await expect(check({ nodes: [`${scheme}://127.0.0.1:${port}`] })).rejects.toMatchObject({ code: 'ES_UNREACHABLE', exitCode: 3 });
    await expect(check({ nodes: ['https://no-such-host.invalid:9200'] })).rejects.toMatchObject({ code: 'ES_UNREACHABLE' });
  });

  test('never tells the password, the key or a row in its error', async () => {
    const failed = await check({ auth: { username: 'elastic', password: 'secret-word' } }).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(Error);
    expect(`${(failed as Error).stack} ${JSON.stringify(failed)} ${String((failed as Error).cause)}`).not.toContain('secret-word');
  });
});

test('a sink without the right to write stops with ES_RIGHTS and settles nothing', async () => {
  const client = makeClient({ ...good, auth: null });
  afterAll(() => client.close());
  const log = new Log();
  await expect(harness(client, log, 'rights').handle(log, [log.row(newId(), 1, { inputs: '{"a": "secret-word"}' })])).rejects.toMatchObject({ code: 'ES_RIGHTS' });
  const admin = makeClient(good);
  afterAll(() => admin.close());
  const id = newId();
  await harness(admin, log, 'rights').handle(log, [log.row(id, 1)]);
  await expect(harness(client, log, 'rights').handle(log, [log.tombstone(id, 2)])).rejects.toMatchObject({ code: 'ES_RIGHTS' });
  expect(await harness(admin, log, 'rights').document(log, id)).toBeDefined();
});

test('of several nodes the lowest version counts', () => {
  expect(['9.5.3', '8.19.21', '8.9.0', '8.19.3'].reduce(lowerVersion)).toBe('8.9.0');
  expect(lowerVersion('9.0.0-SNAPSHOT', '9.0.0')).toBe('9.0.0-SNAPSHOT');
});
