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

it('keeps an acknowledged document over kill -9 on the same port', async () => {
  const server = await own.elasticsearch({ version: '8' });
  expect((await call(server.url, 'PUT', '/kept/_doc/1', { n: 1 })).status).toBe(201);
  await server.kill9();
  await server.start();
  expect(await call(server.url, 'GET', '/kept/_doc/1')).toMatchObject({ status: 200, json: { _source: { n: 1 } } });
});
