import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, expect, it } from 'vitest';
import { loadConfig } from '../../../src/config/config.ts';
import { checkConnection } from '../../../src/pipeline/sink/elastic-client.ts';
import { elasticSettings, openElastic } from '../../../src/run/connections.ts';

/*
 * What goes over the wire. The servers of these tests cannot make an API key (their security index needs an analysis
 * module that they lack), so what a real one is sent is looked at on the way.
 */
const seen: (string | undefined)[] = [];
const peer = createServer((request, answer) => {
  seen.push(request.headers.authorization);
  answer.writeHead(401, { 'content-type': 'application/json' }).end('{"error":{"type":"security_exception"}}');
});
afterAll(() => void peer.close());

it('an API key is sent instead of user and password, and one that is expired or wrong is ES_AUTH', async () => {
  await once(peer.listen(0, '127.0.0.1'), 'listening');
  const hosts = `["http://127.0.0.1:${(peer.address() as AddressInfo).port}"]`;
  for (const more of [{ ELASTICSEARCH_API_KEY: 'aWQ6a2V5' }, {}]) {
    const config = loadConfig({ ELASTICSEARCH_HOSTS: hosts, ELASTICSEARCH_USERNAME: 'u', ELASTICSEARCH_PASSWORD: 'p', ...more });
    const client = openElastic(config);
    await expect(checkConnection(client, elasticSettings(config))).rejects.toMatchObject({ code: 'ES_AUTH', exitCode: 2 });
    await client.close();
  }
  expect(seen).toEqual(['ApiKey aWQ6a2V5', `Basic ${Buffer.from('u:p').toString('base64')}`]);
});
