import { beforeAll, describe, expect, test } from 'vitest';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import { indexName } from '../../../src/pipeline/sink/index-name.ts';
import { isolate } from '../../support/servers.ts';
import { TENANT } from './documents-of.ts';
import { Log, MONTH, clientOf, harness, newId, putTemplates } from './sink-harness.ts';
import type { Harness } from './sink-harness.ts';

const here = isolate(import.meta.filename);
const client = clientOf(here.elasticsearchUrl);
beforeAll(() => putTemplates(client, here.indexPrefix));

const start = (options?: Parameters<typeof harness>[3]): { log: Log; h: Harness } => {
  const log = new Log();
  return { log, h: harness(client, log, here.indexPrefix, options) };
};

const exists = (month: string, tenantId = TENANT): Promise<boolean> => client.indices.exists({ index: indexName(here.indexPrefix, CONNECTORS.workflow_runs, tenantId, month) });

describe('a batch', () => {
  test('of rows and deletes is applied, and may be committed past its last control marker', async () => {
    const { log, h } = start();
    const [kept, gone] = [newId(), newId()];
    const result = await h.handle(log, [log.row(kept, 1, { status: 'running' }), log.row(gone, 1)], { lastOffset: '5' });
    expect(result).toMatchObject({ committable: '6', complete: true, counts: { applied: 2, stale: 0, 'dead-letter': 0 } });
    expect(await h.handle(log, [log.row(kept, 2, { status: 'succeeded' }), log.tombstone(gone, 2)])).toMatchObject({ counts: { applied: 2 } });
    expect((await h.document(log, kept))?.source).toMatchObject({ id: kept, status: 'succeeded', created_at: '2025-10-10T08:25:41.123456' });
    expect(await h.document(log, gone)).toBeUndefined();
    expect(h.troubles).toStrictEqual([]);
  });

  test('read again from its beginning changes nothing', async () => {
    const { log, h } = start();
    const [a, b] = [newId(), newId()];
    const batch = [log.row(a, 1, { status: 'running' }), log.row(b, 1), log.row(a, 2, { status: 'succeeded' }), log.tombstone(b, 3)];
    await h.handle(log, batch);
    expect(await h.handle(log, batch)).toMatchObject({ complete: true, committable: '4' });
    // Also record by record, which no coalescing helps: the older ones are stale, the newest are the same again.
    const outcomes = [];
    for (const record of batch) outcomes.push((await h.handle(log, [record])).counts);
    expect(outcomes.map(({ applied, stale }) => [applied, stale])).toStrictEqual([[0, 1], [0, 1], [1, 0], [1, 0]]);
    expect((await h.document(log, a))?.source['status']).toBe('succeeded');
    expect(await h.document(log, b)).toBeUndefined();
  });

  test('that is empty but for control markers is committed', async () => {
    const { log, h } = start();
    expect(await h.handle(log, [], { lastOffset: '41' })).toMatchObject({ committable: '42', complete: true });
  });

  test('larger than a bulk goes in several, each document once', async () => {
    const { log, h } = start({ maxBulkBytes: 1 });
    const ids = Array.from({ length: 40 }, newId);
    const big = JSON.stringify({ text: 'x'.repeat(50_000) });
    const result = await h.handle(log, ids.map((id) => log.row(id, 1, { inputs: big })));
    expect(result).toMatchObject({ complete: true, counts: { applied: 40 } });
    expect(result.bulkBytes).toBeGreaterThan(2_000_000);
    for (const id of ids) expect((await h.document(log, id))?.source['inputs']).toStrictEqual(JSON.parse(big));
  });
});

describe('versions', () => {
  test('that are neighbours above 2^53 are told apart', async () => {
    const { log, h } = start();
    const id = newId();
    await h.handle(log, [log.row(id, 9007199254740993n, { status: 'newer' })]);
    expect(await h.handle(log, [log.row(id, 9007199254740992n, { status: 'older' })])).toMatchObject({ counts: { applied: 0, stale: 1 } });
    expect((await h.document(log, id))?.source['status']).toBe('newer');
  });

  test('of one transaction tie, and the last of them wins, in one batch or in two', async () => {
    const { log, h } = start();
    const [a, b] = [newId(), newId()];
    await h.handle(log, [log.row(a, 5, { status: 'first' }), log.row(a, 5, { status: 'last' }), log.row(b, 5, { status: 'first' })]);
    await h.handle(log, [log.row(b, 5, { status: 'last' })]);
    for (const id of [a, b]) expect((await h.document(log, id))?.source['status']).toBe('last');
  });

  test('of a delete are remembered: an older row that comes later does not bring the document back', async () => {
    const { log, h } = start();
    const id = newId();
    await h.handle(log, [log.row(newId(), 1), log.tombstone(id, 9)]);
    expect(await h.handle(log, [log.row(id, 8)])).toMatchObject({ counts: { stale: 1 } });
    expect(await h.document(log, id)).toBeUndefined();
  });

  // docs/decisions/0019: K1 @9, then K2 @9 which compaction took away for the K2 @8 of a backfill
  test.each(['one batch', 'two'])('of a row that moved within its document do not hide the older backfilled one, the only one that compaction left, in %s', async (batches) => {
    const { log, h } = start();
    const id = newId();
    const [other, tombstone, row] = [log.row(newId(), 1), log.moved(id, 9, { createdAt: '2025-10-10 00:25:41.123456' }), log.row(id, 8, { status: 'moved' })];
    const outcomes = batches === 'two' ? [await h.handle(log, [other, tombstone]), await h.handle(log, [row])] : [await h.handle(log, [other, tombstone, row])];
    for (const { complete, counts } of outcomes) expect({ complete, stale: counts.stale }).toStrictEqual({ complete: true, stale: 0 });
    expect((await h.document(log, id))?.source['status']).toBe('moved');
  });

  test('let an update win over the older backfilled row behind it', async () => {
    const { log, h } = start();
    const id = newId();
    expect(await h.handle(log, [log.row(id, 100, { status: 'updated' }), log.row(id, 99, { status: 'backfilled' })])).toMatchObject({ counts: { applied: 1, stale: 1 }, complete: true });
    expect((await h.document(log, id))?.source['status']).toBe('updated');
  });
});

describe('a row that moves', () => {
  test('inside its month is one document, whichever way the batches are cut', async () => {
    const { log, h } = start();
    const [a, b] = [newId(), newId()];
    const moved = { createdAt: '2025-10-11 00:00:00' };
    await h.handle(log, [log.row(a, 1), log.row(b, 1)]);
    await h.handle(log, [log.tombstone(a, 2), log.row(a, 2, { status: 'moved' }, moved), log.tombstone(b, 2)]);
    await h.handle(log, [log.row(b, 2, { status: 'moved' }, moved)]);
    for (const id of [a, b]) expect((await h.document(log, id))?.source).toMatchObject({ status: 'moved', created_at: '2025-10-11T00:00:00' });
  });

  test('to another month leaves its old index', async () => {
    const { log, h } = start();
    const id = newId();
    await h.handle(log, [log.row(id, 1), log.tombstone(id, 2), log.row(id, 2, {}, { createdAt: '2025-11-01 00:00:00' })]);
    expect(await h.document(log, id)).toBeUndefined();
    expect(await h.document(log, id, '2025.11')).toBeDefined();
  });
});

describe('a delete', () => {
  test('never creates an index', async () => {
    const { log, h } = start();
    expect(await h.handle(log, [log.tombstone(newId(), 1, { createdAt: '2001-02-03 00:00:00' })])).toMatchObject({ complete: true, counts: { applied: 1 } });
    expect(await exists('2001.02')).toBe(false);
  });

  test('finds an index that another sink has made after this one saw that it was missing', async () => {
    const { log, h } = start();
    const other = harness(client, log, here.indexPrefix);
    const [id, key] = [newId(), { createdAt: '2001-03-03 00:00:00' }];
    await h.handle(log, [log.tombstone(newId(), 1, key)]);
    await other.handle(log, [log.row(id, 1, {}, key)]);
    await h.handle(log, [log.tombstone(id, 2, key)]);
    expect(await h.document(log, id, '2001.03')).toBeUndefined();
    expect(await exists('2001.03')).toBe(true);
  });

  test('of a row in the same batch is remembered, though its index is missing: the bulk of the sink before may still make it', async () => {
    const { log, h } = start();
    const before = harness(client, log, here.indexPrefix);
    const [id, key] = [newId(), { createdAt: '2001-05-03 00:00:00' }];
    const row = log.row(id, 1, {}, key);
    expect(await h.handle(log, [row, log.tombstone(id, 2, key)])).toMatchObject({ counts: { applied: 1, stale: 1 } });
    expect(await before.handle(log, [row])).toMatchObject({ counts: { applied: 0, stale: 1 } });
    expect(await h.document(log, id, '2001.05')).toBeUndefined();
  });

  test('beside a row of the same missing index does not disturb it', async () => {
    const { log, h } = start();
    const [id, key] = [newId(), { createdAt: '2001-04-03 00:00:00' }];
    expect(await h.handle(log, [log.tombstone(newId(), 1, key), log.row(id, 1, {}, key)])).toMatchObject({ counts: { applied: 2 } });
    expect(await h.document(log, id, '2001.04')).toBeDefined();
  });
});

describe('what cannot be written', () => {
  test('goes to the dead letters with its cause, and the others are applied', async () => {
    const { log, h } = start();
    const id = newId();
    const records = [
      log.row(newId(), 1, {}, { createdAt: 'infinity' }),
      log.row(newId(), 1, {}, { tenantId: 'not-a-uuid' }),
      log.tombstone('not-a-uuid', 1),
      log.record(Buffer.from('foreign'), 1, Buffer.from('x')),
      log.record({ id: newId(), tenantId: TENANT, createdAt: '2025-10-10 00:00:00' }, 1, Buffer.from('no row at all')),
      log.record({ id: newId(), tenantId: TENANT, createdAt: '2025-10-10 00:00:00' }, null, null),
      log.row(id, 1),
    ];
    expect(await h.handle(log, records)).toMatchObject({ complete: true, committable: '7', counts: { applied: 1, 'dead-letter': 6 } });
    const byOffset = h.parked.toSorted((a, b) => Number(a.origin.offset) - Number(b.origin.offset));
    expect(byOffset.map(({ cause, origin }) => [origin.offset, cause])).toStrictEqual([['0', 'no-month'], ['1', 'bad-key'], ['2', 'bad-key'], ['3', 'undecodable'], ['4', 'undecodable'], ['5', 'undecodable']]);
    expect(byOffset.map(({ key }) => key === null)).toStrictEqual([false, false, false, true, false, false]);
    expect(byOffset[0]!.value).toStrictEqual(records[0]!.value);
    expect(byOffset[0]!.origin).toMatchObject({ stage: 'sink', partition: 3 });
    expect(await h.document(log, id)).toBeDefined();
  });

  test('is not committed when the dead-letter topic does not take it', async () => {
    const { log, h } = start({ park: () => Promise.reject(new Error('no broker')) });
    await expect(h.handle(log, [log.row(newId(), 1), log.row(newId(), 1, {}, { createdAt: 'infinity' })])).rejects.toThrow('no broker');
  });
});

test('months that retention has dropped stay dropped, for that tenant alone', async () => {
  const other = '99999999-2222-4333-8444-555555555555';
  const { log, h } = start({ expiredThrough: (tenantId) => (tenantId === TENANT ? '2002.06' : undefined) });
  const at = (createdAt: string, tenantId = TENANT): ReturnType<Log['row']> => log.row(newId(), 1, {}, { createdAt, tenantId });
  const result = await h.handle(log, [at('2002.05-01 00:00:00'.replace('.', '-')), at('2002-06-30 23:59:59'), at('2002-07-01 00:00:00'), at('2002-06-01 00:00:00', other), log.tombstone(newId(), 1, { createdAt: '2002-06-01 00:00:00' })]);
  expect(result).toMatchObject({ complete: true, counts: { expired: 3, applied: 2 } });
  expect([await exists('2002.05'), await exists('2002.06'), await exists('2002.07'), await exists('2002.06', other)]).toStrictEqual([false, false, true, true]);
});

test('nothing of a switched tenant is written, and all of it is settled', async () => {
  const switched = new Set<string>();
  const { log, h } = start({ isSwitched: (tenantId) => switched.has(tenantId) });
  const id = newId();
  await h.handle(log, [log.row(id, 1, { status: 'before' })]);
  switched.add(TENANT);
  expect(await h.handle(log, [log.row(id, 2, { status: 'after' }), log.tombstone(id, 3), log.row(newId(), 1)])).toMatchObject({ complete: true, committable: '4', counts: { switched: 3, applied: 0 } });
  expect((await h.document(log, id))?.source['status']).toBe('before');
});

test(`a document of ${MONTH} that Dify wrote itself, with a version of its own, is replaced by any of ours`, async () => {
  const { log, h } = start();
  const id = newId();
  await client.index({ index: indexName(here.indexPrefix, CONNECTORS.workflow_runs, TENANT, MONTH), id, document: { id, status: 'of Dify' } });
  await h.handle(log, [log.row(id, 0, { status: 'of ours' })]);
  expect((await h.document(log, id))?.source['status']).toBe('of ours');
});
