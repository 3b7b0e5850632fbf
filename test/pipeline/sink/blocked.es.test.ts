import { beforeAll, expect, test } from 'vitest';
import type { Client } from '@elastic/elasticsearch';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import type { ElasticsearchVersion } from '../../../scripts/local/elasticsearch.ts';
import { indexName } from '../../../src/pipeline/sink/index-name.ts';
import { ownServers } from '../../support/servers.ts';
import type { LocalServer } from '../../support/servers.ts';
import { TENANT } from './documents-of.ts';
import { Log, MONTH, clientOf, harness, newId, putTemplates, versionOf } from './sink-harness.ts';

/* The refusals of a real server that has been brought into each state: a server of its own, since they hit the whole cluster. */

const servers = ownServers();
const prefix = 'blocked';
let server: LocalServer;
let client: Client;
beforeAll(async () => {
  const version = (process.env['DIFY_ES_TEST_ES'] ?? '9') as ElasticsearchVersion;
  server = await servers.elasticsearch({ version, settings: { 'indexing_pressure.memory.limit': '1mb' } });
  client = clientOf(server.url);
  await putTemplates(client, prefix);
});

const cluster = (settings: Record<string, unknown>): Promise<unknown> => client.cluster.putSettings({ persistent: settings });
const index = (settings: Record<string, unknown>): Promise<unknown> => client.indices.putSettings({ index: indexName(prefix, CONNECTORS.workflow_runs, TENANT, MONTH), settings });

/** The state that refuses, what it answers, and the way out of it. In the first two it is a new index that is needed. */
test.each([
  ['the maximum of shards is open', 400, 'validation_exception', '1990.01', () => cluster({ 'cluster.max_shards_per_node': 1 }), () => cluster({ 'cluster.max_shards_per_node': null })],
  ['indices may not be created', 404, 'index_not_found_exception', '1990.02', () => cluster({ 'action.auto_create_index': 'false' }), () => cluster({ 'action.auto_create_index': null })],
  ['the index is write-protected', 403, 'cluster_block_exception', MONTH, () => index({ 'index.blocks.write': true }), () => index({ 'index.blocks.write': null })],
  ['the disk is full', 429, 'cluster_block_exception', MONTH, () => index({ 'index.blocks.read_only_allow_delete': true }), () => index({ 'index.blocks.read_only_allow_delete': null })],
  ['the cluster is read-only', 403, 'cluster_block_exception', MONTH, () => cluster({ 'cluster.blocks.read_only': true }), () => cluster({ 'cluster.blocks.read_only': null })],
] as const)('while %s the sink waits, and goes on by itself', async (_, status, type, month, enter, leave) => {
  const log = new Log();
  let waited = 0;
  const h = harness(client, log, prefix, {
    onTrouble: (trouble) => {
      expect([trouble.status, trouble.type]).toStrictEqual([status, type]);
      if (++waited === 3) void leave();
    },
  });
  const there = newId();
  await h.handle(log, [log.row(there, 1)]);
  await enter();
  const id = newId();
  const createdAt = `${month.replace('.', '-')}-05 00:00:00`;
  const result = await h.handle(log, [log.row(id, 1, {}, { createdAt }), ...(month === MONTH ? [log.tombstone(there, 2)] : [])]);
  expect(waited).toBeGreaterThanOrEqual(3);
  expect(result).toMatchObject({ complete: true, counts: { applied: month === MONTH ? 2 : 1, 'dead-letter': 0 } });
  expect(await h.document(log, id, month)).toBeDefined();
});

test('a document that this server refuses for its size with 429 is a dead letter after ten times, since small ones pass', async () => {
  const log = new Log();
  const h = harness(client, log, prefix, { maxBulkBytes: 8 << 20 });
  const [big, small] = [newId(), newId()];
  const result = await h.handle(log, [log.row(big, 1, { outputs: JSON.stringify('x'.repeat(1_500_000)) }), log.row(small, 1)]);
  expect(result).toMatchObject({ complete: true, counts: { applied: 1, 'dead-letter': 1 } });
  expect(h.parked).toMatchObject([{ cause: 'too-large-for-elasticsearch', key: { id: big } }]);
  expect(h.troubles.length).toBeGreaterThanOrEqual(10);
  expect(h.troubles.every((trouble) => trouble.status === 429)).toBe(true);
});

test('an index that somebody has closed refuses its documents for good: they go to the dead letters', async () => {
  const log = new Log();
  const h = harness(client, log, prefix);
  const createdAt = '1999-01-01 00:00:00';
  await h.handle(log, [log.row(newId(), 1, {}, { createdAt })]);
  await client.indices.close({ index: indexName(prefix, CONNECTORS.workflow_runs, TENANT, '1999.01') });
  expect(await h.handle(log, [log.row(newId(), 1, {}, { createdAt }), log.tombstone(newId(), 1, { createdAt }), log.row(newId(), 1)])).toMatchObject({ complete: true, counts: { applied: 1, 'dead-letter': 2 } });
  expect(h.parked.map(({ detail }) => detail)).toStrictEqual(['400 index_closed_exception', '400 index_closed_exception']);
});

test('a server that is killed in the middle of the work has all that was settled when it is back', { timeout: 300_000 }, async () => {
  const log = new Log();
  let attempts = 0;
  const h = harness(client, log, prefix, { onTrouble: () => void (++attempts === 3 && void server.start()) });
  const [before, after] = [newId(), newId()];
  await h.handle(log, [log.row(before, 1)]);
  await server.kill9();
  expect(await h.handle(log, [log.row(before, 2, { status: 'newer' }), log.row(after, 1)])).toMatchObject({ complete: true, counts: { applied: 2 } });
  expect(attempts).toBeGreaterThanOrEqual(3);
  expect((await h.document(log, before))?.source['status']).toBe('newer');
  expect(await h.document(log, after)).toBeDefined();
});

test('a server that restarts has forgotten which version a deleted document had: the order of the partition keeps the older row out', { timeout: 300_000 }, async () => {
  const log = new Log();
  const h = harness(client, log, prefix);
  const [fact, id] = [newId(), newId()];
  const records = [log.row(id, 1), log.tombstone(id, 2)];
  expect(await h.handle(log, [...records, log.row(fact, 5)])).toMatchObject({ complete: true });
  expect(await h.handle(log, [log.tombstone(fact, 6)])).toMatchObject({ complete: true });
  const older = (): Promise<number> =>
    fetch(`${server.url}/${indexName(prefix, CONNECTORS.workflow_runs, TENANT, MONTH)}/_doc/${fact}?version=${versionOf(4)}&version_type=external_gte`, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{}' }).then(({ status }) => status);
  expect(await older(), 'it still knows').toBe(409);
  // what is flushed is not read again at the start, and with it the memory of the delete goes
  await client.indices.flush();
  await server.kill9();
  await server.start();
  expect(await older(), 'it has forgotten').toBe(201);

  // the offsets were not committed: both records come again, in batches of their own
  for (const record of records) expect(await h.handle(log, [record])).toMatchObject({ complete: true, counts: { applied: 1 } });
  expect(await h.document(log, id)).toBeUndefined();
});

test('a server that hangs with its connections open is waited for', async () => {
  const log = new Log();
  const types: string[] = [];
  const h = harness(clientOf(server.url, 3_000), log, prefix, { onTrouble: ({ type }) => (types.push(type), server.resume()) }, client);
  await h.handle(log, [log.row(newId(), 1)]);
  server.pause();
  const id = newId();
  expect(await h.handle(log, [log.row(id, 1)])).toMatchObject({ complete: true, counts: { applied: 1 } });
  expect(types[0]).toBe('TimeoutError');
  expect(await h.document(log, id)).toBeDefined();
});
