import { beforeAll, afterAll, describe, expect, test } from 'vitest';
import { isBulk, lyingElasticsearch } from '../../support/faults/lying-elasticsearch.ts';
import type { Lie, Liar, LyingElasticsearch, SeenRequest } from '../../support/faults/lying-elasticsearch.ts';
import { isolate } from '../../support/servers.ts';
import { Log, clientOf, harness, newId, putTemplates } from './sink-harness.ts';
import type { Harness } from './sink-harness.ts';

/* A real server behind a proxy that lies as networks and overloaded nodes do. Each test asserts that its lie was told. */

const here = isolate(import.meta.filename);
const real = clientOf(here.elasticsearchUrl);
let proxy: LyingElasticsearch;
beforeAll(async () => {
  proxy = await lyingElasticsearch(here.elasticsearchUrl);
  await putTemplates(real, here.indexPrefix);
});
afterAll(() => proxy.close());

/** A sink behind the liar, with what it sent of bulks since. */
function behind(liar: Liar | undefined, options?: Parameters<typeof harness>[3], timeoutMs?: number): { log: Log; h: Harness; bulks: () => SeenRequest[]; told: () => number } {
  const log = new Log();
  const h = harness(clientOf(proxy.url, timeoutMs), log, here.indexPrefix, options, real);
  const [from, toldBefore] = [proxy.requests.length, proxy.told];
  proxy.lie(liar);
  return { log, h, bulks: () => proxy.requests.slice(from).filter(isBulk), told: () => proxy.told - toldBefore };
}

/** Tells the lie to the first `times` bulks. */
function toBulks(times: number, lie: Lie): Liar {
  let left = times;
  return (seen) => (isBulk(seen) && left-- > 0 ? lie : undefined);
}

const idsOf = (bulk: SeenRequest | undefined): string[] | undefined => bulk?.operations.map(({ id }) => id);

describe('an item that is refused for now', () => {
  test.each([[429, 'es_rejected_execution_exception'], [503, 'unavailable_shards_exception'], [403, 'cluster_block_exception'], [400, 'validation_exception'], [502, 'unknown']] as const)('with %s %s is sent again, it alone, until it passes', async (status, type) => {
    const [good, bad] = [newId(), newId()];
    const { log, h, bulks, told } = behind(toBulks(2, { kind: 'items', of: ({ id }) => (id === bad ? { status, type } : undefined) }));
    const result = await h.handle(log, [log.row(good, 1), log.row(bad, 1)]);
    expect(result).toMatchObject({ complete: true, counts: { applied: 2 } });
    expect(told()).toBe(2);
    expect(bulks().map(idsOf)).toStrictEqual([[good, bad], [bad], [bad]]);
    expect(h.troubles.map((trouble) => [trouble.status, trouble.type, trouble.items])).toStrictEqual([[status, type, 1], [status, type, 1]]);
    expect(h.recoveries).toStrictEqual([2]);
    expect(await h.document(log, bad)).toBeDefined();
  });
});

describe('an answer that does not come', () => {
  test.each<[string, Lie]>([['cut after the batch was carried out', { kind: 'cut' }], ['torn in the middle', { kind: 'tear' }], ['a page of a proxy', { kind: 'answer', status: 502, body: '<html>' }], ['for other items than were sent', { kind: 'answer', status: 200, body: { errors: false, items: [{ index: { status: 201 } }] } }]])('%s: the whole batch is sent again, and ends the same', async (_, lie) => {
    const ids = [newId(), newId()];
    const { log, h, bulks, told } = behind(toBulks(2, lie));
    expect(await h.handle(log, [log.row(ids[0]!, 1), log.row(ids[1]!, 1)])).toMatchObject({ complete: true, counts: { applied: 2 } });
    expect(told()).toBe(2);
    expect(bulks().map(idsOf)).toStrictEqual([ids, ids, ids]);
    for (const id of ids) expect(await h.document(log, id)).toBeDefined();
  });

  test('in time is no answer, and a late bulk that is carried out after its successor changes nothing', async () => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const id = newId();
    const { log, h, told } = behind(toBulks(1, { kind: 'stall', until: held }), {}, 500);
    await h.handle(log, [log.row(id, 1, { status: 'older' })]);
    await h.handle(log, [log.row(id, 2, { status: 'newer' })]);
    expect(told()).toBe(1);
    expect(h.troubles[0]).toMatchObject({ status: 0, type: 'TimeoutError' });
    release();
    await proxy.idle();
    expect((await h.document(log, id))?.source['status']).toBe('newer');
  });

  test('with nobody listening is waited for, saying so, until somebody does', async () => {
    const id = newId();
    const gate = await lyingElasticsearch(here.elasticsearchUrl);
    const { url } = gate;
    await gate.close();
    const log = new Log();
    let back: LyingElasticsearch | undefined;
    const h = harness(clientOf(url), log, here.indexPrefix, {
      onTrouble: ({ attempt, type }) => {
        expect(type).toBe('ConnectionError');
        if (attempt === 3) void lyingElasticsearch(here.elasticsearchUrl, Number(new URL(url).port)).then((opened) => (back = opened));
      },
    }, real);
    expect(await h.handle(log, [log.row(id, 1)])).toMatchObject({ complete: true });
    expect(back?.requests.length).toBeGreaterThan(0);
    await back?.close();
  });
});

describe('a document that is refused', () => {
  test('is sent once more with its JSON columns as text, and then to the dead letters', async () => {
    const [curable, hopeless, plain, good] = [newId(), newId(), newId(), newId()];
    let bulk = 0;
    const refused = { status: 400, type: 'document_parsing_exception' };
    const { log, h, bulks, told } = behind((seen) => {
      if (!isBulk(seen)) return undefined;
      const first = bulk++ === 0;
      return { kind: 'items', of: ({ id }) => ((first && id !== good) || id === hopeless ? refused : undefined) };
    });
    const result = await h.handle(log, [log.row(curable, 1, { inputs: '{"a": 1}' }), log.row(hopeless, 1, { inputs: '{}' }), log.row(plain, 1, { inputs: null }), log.row(good, 1)]);
    expect(told()).toBe(2);
    expect(result).toMatchObject({ complete: true, committable: '4', counts: { applied: 2, 'dead-letter': 2 }, invalidJson: 1 });
    expect(bulks().map(idsOf)).toStrictEqual([[curable, hopeless, plain, good], [curable, hopeless]]);
    expect((await h.document(log, curable))?.source['inputs']).toStrictEqual({ _invalid_json: '{"a": 1}' });
    expect(h.parked.map(({ cause, key, detail }) => [cause, key?.id, detail])).toStrictEqual([['refused', plain, '400 document_parsing_exception'], ['refused', hopeless, '400 document_parsing_exception']]);
  });

  test('with 429 alone ten times while others pass is a dead letter, and holds nobody up for ever', async () => {
    const [good, big] = [newId(), newId()];
    const { log, h, bulks, told } = behind((seen) => (isBulk(seen) ? { kind: 'items', of: ({ id }) => (id === big ? { status: 429, type: 'es_rejected_execution_exception' } : undefined) } : undefined));
    const result = await h.handle(log, [log.row(good, 1), log.row(big, 1)]);
    expect(result).toMatchObject({ complete: true, counts: { applied: 1, 'dead-letter': 1 } });
    expect(h.parked.map(({ cause, key }) => [cause, key?.id])).toStrictEqual([['too-large-for-elasticsearch', big]]);
    expect(told()).toBe(11);
    expect(bulks().slice(1).map(idsOf)).toStrictEqual(Array.from({ length: 10 }, () => [big]));
  });

  test('among several that are refused together is told apart by halving', async () => {
    const ids = Array.from({ length: 4 }, newId);
    const big = ids[2]!;
    const { log, h, told } = behind((seen) => (isBulk(seen) && seen.operations.some(({ id }) => id === big) ? { kind: 'answer', status: 429, body: { error: { type: 'es_rejected_execution_exception' }, status: 429 } } : undefined));
    const result = await h.handle(log, ids.map((id) => log.row(id, 1)));
    expect(result).toMatchObject({ complete: true, counts: { applied: 3, 'dead-letter': 1 } });
    expect(h.parked.map(({ cause, key }) => [cause, key?.id])).toStrictEqual([['too-large-for-elasticsearch', big]]);
    expect(told()).toBeGreaterThan(10);
  });

  test('with 429 while nothing passes at all is no dead letter: the cluster is full, not the document too large', async () => {
    const stop = new AbortController();
    let refusals = 0;
    const { log, h, told } = behind((seen) => {
      if (seen.method !== 'HEAD' && ++refusals > 30) stop.abort();
      return { kind: 'answer', status: 429, body: { error: { type: 'es_rejected_execution_exception' }, status: 429 } };
    });
    expect(await h.handle(log, [log.row(newId(), 1)], { signal: stop.signal })).toMatchObject({ complete: false, committable: undefined, counts: { 'dead-letter': 0 } });
    expect(told()).toBeGreaterThan(30);
    expect(h.parked).toStrictEqual([]);
  });
});

describe('a bulk that is too large', () => {
  test('for a proxy is halved until it passes, and later ones are smaller', async () => {
    const limit = 600_000;
    const { log, h, bulks, told } = behind((seen) => (isBulk(seen) && seen.bytes > limit ? { kind: 'answer', status: 413, body: '<html>' } : undefined), { maxBulkBytes: 4 << 20 });
    const rows = (count: number): ReturnType<Log['row']>[] => Array.from({ length: count }, () => log.row(newId(), 1, { graph: JSON.stringify({ x: 'y'.repeat(100_000) }) }));
    expect(await h.handle(log, rows(16))).toMatchObject({ complete: true, counts: { applied: 16 } });
    const refusedFirst = told();
    expect(refusedFirst).toBeGreaterThan(0);
    await h.handle(log, rows(16));
    expect(told() - refusedFirst).toBeLessThanOrEqual(refusedFirst);
    expect(bulks().filter(({ bytes }) => bytes <= limit).reduce((sum, { operations }) => sum + operations.length, 0)).toBe(32);
  });

  test('as a single document is a dead letter', async () => {
    const [small, big] = [newId(), newId()];
    const { log, h, told } = behind((seen) => (isBulk(seen) && seen.bytes > 50_000 ? { kind: 'answer', status: 413, body: '' } : undefined));
    expect(await h.handle(log, [log.row(small, 1), log.row(big, 1, { graph: JSON.stringify('x'.repeat(60_000)) })])).toMatchObject({ complete: true, counts: { applied: 1, 'dead-letter': 1 } });
    expect(told()).toBe(2);
    expect(h.parked[0]).toMatchObject({ cause: 'too-large-for-elasticsearch', key: { id: big } });
  });
});

describe('credentials that are refused', () => {
  test.each([[401, 'security_exception', 'ES_AUTH'], [403, 'security_exception', 'ES_RIGHTS']] as const)('with %s %s stop the sink with %s, and nothing is committed', async (status, type, code) => {
    for (const lie of [{ kind: 'answer', status, body: { error: { type }, status } }, { kind: 'items', of: () => ({ status, type }) }] satisfies Lie[]) {
      const { log, h, told } = behind(toBulks(1, lie));
      await expect(h.handle(log, [log.row(newId(), 1)])).rejects.toMatchObject({ code });
      expect(told()).toBe(1);
    }
  });
});

describe('the signal to stop', () => {
  test('during a pause ends it, and what is settled at the front of the batch may be committed', async () => {
    const [a, b, c] = [newId(), newId(), newId()];
    const stop = new AbortController();
    const { log, h, told } = behind((seen) => (isBulk(seen) ? { kind: 'items', of: ({ id }) => (id === b ? { status: 503, type: 'unavailable_shards_exception' } : undefined) } : undefined), { onTrouble: () => stop.abort() });
    expect(await h.handle(log, [log.row(a, 1), log.row(b, 1), log.row(c, 1)], { signal: stop.signal })).toMatchObject({ complete: false, committable: '1', counts: { applied: 2 } });
    expect(told()).toBe(1);
    proxy.lie(undefined);
    expect(await h.document(log, c)).toBeDefined();
  });

  test('during a request waits for its answer', async () => {
    const stop = new AbortController();
    const { log, h, told } = behind((seen) => (isBulk(seen) ? (stop.abort(), { kind: 'hold', until: new Promise((resolve) => setImmediate(resolve)) }) : undefined));
    expect(await h.handle(log, [log.row(newId(), 1)], { signal: stop.signal })).toMatchObject({ complete: true, committable: '1', counts: { applied: 1 } });
    expect(told()).toBe(1);
  });

  test('gives a request up that is not answered in a few seconds', async () => {
    const stop = new AbortController();
    const { log, h, told } = behind((seen) => (isBulk(seen) ? (stop.abort(), { kind: 'stall', until: new Promise(() => undefined) }) : undefined));
    expect(await h.handle(log, [log.row(newId(), 1)], { signal: stop.signal })).toMatchObject({ complete: false, committable: undefined });
    expect(told()).toBe(1);
  });
});

test('Kafka is kept alive while Elasticsearch takes its time', async () => {
  let beats = 0;
  let enough: () => void = () => undefined;
  const until = new Promise<void>((resolve) => (enough = resolve));
  const { log, h, told } = behind(toBulks(1, { kind: 'hold', until }));
  const heartbeat = (): Promise<void> => Promise.resolve(void (++beats === 2 && enough()));
  expect(await h.handle(log, [log.row(newId(), 1)], { heartbeat })).toMatchObject({ complete: true });
  expect([told(), beats]).toStrictEqual([1, 2]);
});
