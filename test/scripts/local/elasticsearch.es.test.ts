import { readFileSync } from 'node:fs';
import { Client } from '@elastic/elasticsearch';
import { expect, it } from 'vitest';
import { isolate, ownServers } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const own = ownServers();

async function call(url: string, method: string, path: string, body?: object): Promise<{ status: number; json: Record<string, unknown> }> {
  const response = await fetch(`${url}${path}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }) });
  return { status: response.status, json: (await response.json()) as Record<string, unknown> };
}

it('takes an external version above 2^53', async () => {
  const path = `/${here.indexPrefix}-versions/_doc/1?version_type=external_gte&version=`;
  expect((await call(here.elasticsearchUrl, 'PUT', `${path}9007199254740993`, { n: 1 })).status).toBe(201);
  expect((await call(here.elasticsearchUrl, 'PUT', `${path}9007199254740992`, { n: 0 })).status).toBe(409);
});

it('that is secure keeps an acknowledged document over kill -9 on the same port', async () => {
  const server = await own.elasticsearch({ version: '8', secure: true });
  const connect = (password: string | undefined): Client => new Client({
    node: server.url, auth: { username: 'elastic', password: password ?? '' }, tls: { ca: readFileSync(server.env['ELASTICSEARCH_CA_CERTS'] ?? '', 'utf8') }, maxRetries: 0,
  });
  await expect(connect('guessed').cluster.health()).rejects.toMatchObject({ statusCode: 401 });
  const client = connect(server.env['ELASTICSEARCH_PASSWORD']);
  await client.index({ index: 'kept', id: '1', document: { n: 1 } });
  await server.kill9();
  await server.start();
  expect((await client.get({ index: 'kept', id: '1' }))._source).toEqual({ n: 1 });
});
