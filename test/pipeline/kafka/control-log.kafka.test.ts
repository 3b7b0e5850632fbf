import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ControlLog, type LayoutRecord, stateKeys } from '../../../src/core/state.ts';
import { createSchemaBook } from '../../../src/pipeline/encode/schema-book.ts';
import { schemaOf, schemaRecordOf } from '../../../src/pipeline/encode/row-schema.ts';
import { createKafka } from '../../../src/pipeline/kafka/client.ts';
import { openControlLog } from '../../../src/pipeline/kafka/control-log.ts';
import { describeTopics, ensureTopics, pinLayout, verifyTopics, withAdmin } from '../../../src/pipeline/kafka/topics.ts';
import { isolate } from '../../support/servers.ts';
import { benchFor } from './bench-for.ts';
import { Bench, PARTITIONS, RUNS, row, Seen, silent } from './harness.ts';

const here = isolate(import.meta.filename);
let shared: Bench;
beforeAll(async () => {
  shared = new Bench(here.brokers, here.topicPrefix);
  await shared.setup();
});
afterAll(() => shared.close());

describe('the control log', () => {
  it('shows a record at once to its writer, soon to another view, and to one that opens later', async () => {
    const bench = benchFor(shared);
    const [writer, other] = [await bench.control(), await bench.control()];
    const key = `test/${randomUUID()}`;
    const seen = new Seen<string>();
    other.onChange((changed) => seen.add(changed));
    await writer.put(key, { lsn: '16/B374D848', deep: { list: [1, null] } });
    expect(writer.get(key)).toEqual({ lsn: '16/B374D848', deep: { list: [1, null] } });
    await seen.until((keys) => keys.includes(key));
    expect(other.get(key)).toEqual(writer.get(key));
    expect((await bench.control()).get(key)).toEqual(writer.get(key));
  });

  it('keeps the later of two writes of one key in every view', async () => {
    const bench = benchFor(shared);
    const [a, b] = [await bench.control(), await bench.control()];
    const key = `test/${randomUUID()}`;
    for (let value = 0; value < 20; value++) await (value % 2 ? a : b).put(key, value);
    await Promise.all([a.refresh(), b.refresh()]);
    expect([a.get(key), b.get(key)]).toEqual([19, 19]);
  });

  it('forgets what was removed', async () => {
    const bench = benchFor(shared);
    const control = await bench.control();
    const key = `test/${randomUUID()}`;
    await control.put(key, 1);
    await control.remove(key);
    expect(control.get(key)).toBeUndefined();
    expect((await bench.control()).get(key)).toBeUndefined();
  });

  it('decides and writes as one step: of many changes by several processes at once none is lost', async () => {
    const bench = benchFor(shared);
    const views = [await bench.control(), await bench.control(), await bench.control()];
    const [count, last] = [`test/${randomUUID()}`, `test/${randomUUID()}`];
    let decisions = 0;
    const add = (view: ControlLog): Promise<number> =>
      view.change(() => {
        decisions++;
        const next = (view.get<number>(count) ?? 0) + 1;
        return { writes: [[count, next], [last, next]], result: next };
      });
    const results = await Promise.all(views.flatMap((view) => [1, 2, 3, 4].map(() => add(view))));
    expect(results.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, n) => n + 1));
    // They got in each other's way, or this has shown nothing.
    expect(decisions).toBeGreaterThan(12);
    for (const view of views) {
      await view.refresh();
      expect([view.get(count), view.get(last)]).toEqual([12, 12]);
    }
  });

  it('writes nothing when the decision throws, or has nothing to write, and takes keys away', async () => {
    const control = await benchFor(shared).control();
    const key = `test/${randomUUID()}`;
    await expect(control.change(() => { throw new RangeError('no'); })).rejects.toThrow(RangeError);
    expect(await control.change(() => ({ writes: [], result: 7 }))).toBe(7);
    expect(await control.change(() => ({ writes: [[key, { n: 1 }]], result: undefined }))).toBeUndefined();
    expect(control.get(key)).toEqual({ n: 1 });
    await control.change(() => ({ writes: [[key, null]], result: undefined }));
    expect(control.get(key)).toBeUndefined();
  });

  it('brings with refresh everything that was acknowledged before, also to a view that heard nothing yet', async () => {
    const bench = benchFor(shared);
    const [writer, other] = [await bench.control(), await bench.control()];
    for (let round = 0; round < 20; round++) {
      const key = `test/${randomUUID()}`;
      await writer.put(key, round);
      await other.refresh();
      expect(other.get(key)).toBe(round);
    }
  });

  it('shows its own write although another writer has a transaction open on the topic', async () => {
    const bench = benchFor(shared);
    const control = await bench.control();
    const producer = bench.kafka.producer({ transactionalId: randomUUID(), idempotent: true, maxInFlightRequests: 1, createPartitioner: () => () => 0 });
    await producer.connect();
    bench.later(() => producer.disconnect());
    const open = await producer.transaction();
    await open.send({ topic: bench.names.control, messages: [{ key: 'test/open', value: '1' }] });
    const key = `test/${randomUUID()}`;
    await control.put(key, 1);
    expect(control.get(key)).toBe(1);
    await open.abort();
    await control.refresh();
    expect(control.get(key)).toBe(1);
    expect(control.get('test/open')).toBeUndefined();
  });

  it('passes over a record that is no JSON', async () => {
    const bench = benchFor(shared);
    const producer = bench.kafka.producer({ createPartitioner: () => () => 0 });
    await producer.connect();
    bench.later(() => producer.disconnect());
    await producer.send({ topic: bench.names.control, messages: [{ key: 'test/foreign', value: 'not json' }] });
    const control = await bench.control();
    expect(control.get('test/foreign')).toBeUndefined();
    expect(control.get(stateKeys.layout)).toBeDefined();
  });

  it('shows all of hundreds of keys as soon as it is open', async () => {
    const bench = benchFor(shared);
    const control = await bench.control();
    await Promise.all(Array.from({ length: 500 }, (_, index) => control.put(`test/many/${index}`, { index })));
    const view = await openControlLog({ kafka: bench.kafka, topic: bench.names.control, logger: silent });
    bench.later(() => view.close());
    expect(view.entries('test/many/')).toHaveLength(500);
  });

  it('says which topic is missing before the first setup, and that no broker answers', async () => {
    const missing = new Bench(here.brokers, `${here.topicPrefix}-none`);
    await expect(missing.control()).rejects.toMatchObject({ code: 'KAFKA_TOPIC_MISSING' });
    const nobody = createKafka({ brokers: ['127.0.0.1:1'], clientId: 'test' }, silent);
    await expect(openControlLog({ kafka: nobody, topic: 'x', logger: silent })).rejects.toMatchObject({ code: 'KAFKA_UNREACHABLE' });
  });

  it('leaves no consumer group behind', async () => {
    const bench = benchFor(shared);
    await bench.control();
    const { groups } = await withAdmin(bench.kafka, 'list groups', (admin) => admin.listGroups());
    expect(groups.map(({ groupId }) => groupId).filter((group) => group.includes(here.topicPrefix))).toEqual([]);
  });
});

describe('schemas', () => {
  it('are waited for until they are on the control topic', async () => {
    const bench = benchFor(shared);
    const [writer, reader] = [await bench.control(), await bench.control()];
    const schema = schemaOf({ table: RUNS, columns: ['id', randomUUID()] });
    const book = createSchemaBook(reader);
    expect(book.get(schema.hex)).toBeUndefined();
    const waiting = book.wait(schema.hex);
    await writer.put(stateKeys.schema(schema.hex), schemaRecordOf(schema));
    expect((await waiting).shape).toEqual(schema.shape);
    expect(book.get(schema.hex)?.shape).toEqual(schema.shape);
  });

  it('that never come end with the cure', async () => {
    const book = createSchemaBook(await benchFor(shared).control());
    await expect(book.wait('0000000000000000', 50)).rejects.toMatchObject({ code: 'KAFKA_SCHEMA_UNKNOWN' });
  });
});

describe('a control topic that was deleted and made anew', () => {
  it('shows nothing of the old one after a refresh', async () => {
    const bench = benchFor(shared, `${here.topicPrefix}-anew`);
    await bench.setup();
    const control = await bench.control();
    for (let i = 0; i < 20; i++) await control.put('old', { i });
    await withAdmin(bench.kafka, 'delete', (admin) => admin.deleteTopics({ topics: [bench.names.control] }));
    await expect.poll(() => ensureTopics(bench.kafka, bench.names, { partitions: PARTITIONS, replicationFactor: 1 }).then(({ created }) => created.length, () => 0), { timeout: 20_000 }).toBe(1);
    await expect.poll(() => control.refresh().then(() => control.get('old')), { timeout: 20_000 }).toBeUndefined();
    await control.put('new', { of: 'the new one' });
    await control.refresh();
    expect([control.get('old'), control.get('new')]).toEqual([undefined, { of: 'the new one' }]);
  });
});

describe('the topics on the brokers', () => {
  it('are made as they are checked, and made twice without a change', async () => {
    const bench = benchFor(shared, `${here.topicPrefix}-made`);
    const wanted = { partitions: 2, replicationFactor: 1 };
    expect((await ensureTopics(bench.kafka, bench.names, wanted)).created).toHaveLength(6);
    expect(await ensureTopics(bench.kafka, bench.names, { ...wanted, partitions: 9 })).toEqual({ created: [], altered: [] });
    const states = await withAdmin(bench.kafka, 'describe', (admin) => describeTopics(admin, bench.names));
    expect(verifyTopics(states, bench.names, 2)).toEqual([]);
  });

  it('that somebody set otherwise are corrected, and what else was set stays', async () => {
    const bench = benchFor(shared, `${here.topicPrefix}-set`);
    const wanted = { partitions: 1, replicationFactor: 1 };
    await ensureTopics(bench.kafka, bench.names, wanted);
    const topic = bench.names.table[RUNS];
    await withAdmin(bench.kafka, 'break', (admin) =>
      admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: topic, configEntries: [{ name: 'cleanup.policy', value: 'delete' }, { name: 'retention.bytes', value: '123456789' }] }] }),
    );
    const describe = () => withAdmin(bench.kafka, 'describe', (admin) => describeTopics(admin, bench.names));
    await expect.poll(async () => verifyTopics(await describe(), bench.names, 1).map(({ what }) => what), { timeout: 20_000 }).toContain('cleanup.policy');
    expect((await ensureTopics(bench.kafka, bench.names, wanted)).altered).toEqual([topic]);
    await expect.poll(async () => verifyTopics(await describe(), bench.names, 1), { timeout: 20_000 }).toEqual([]);
    expect((await describe()).find((state) => state.topic === topic)?.config['retention.bytes']).toBe('123456789');
  });

  it('with a partition more are refused, since rows would change partition', async () => {
    const bench = new Bench(here.brokers, `${here.topicPrefix}-grown`);
    try {
      await bench.setup();
      const control = await bench.control();
      expect(control.get<LayoutRecord>(stateKeys.layout)?.partitions).toBe(PARTITIONS);
      await withAdmin(bench.kafka, 'grow', (admin) => admin.createPartitions({ topicPartitions: Object.values(bench.names.table).map((topic) => ({ topic, count: PARTITIONS + 1 })) }));
      await expect.poll(() => pinLayout(bench.kafka, bench.names, control).then(() => 'fine', (error: { code: string }) => error.code), { timeout: 10_000 }).toBe('KAFKA_LAYOUT_CHANGED');
    } finally {
      await bench.close();
    }
  });

  it('that are not there yet say so to a writer', async () => {
    const bench = benchFor(shared, `${here.topicPrefix}-nothing`);
    await expect(pinLayout(bench.kafka, bench.names, await shared.control())).rejects.toMatchObject({ code: 'KAFKA_TOPIC_MISSING' });
  });
});

describe('dead letters', () => {
  it('are listed by cause, found by id and accepted on the control topic, all of one row and cause at once', async () => {
    const { createLetterWriter, openDeadLetters } = await import('../../../src/pipeline/kafka/dead-letters.ts');
    const bench = benchFor(shared);
    const control = await bench.control();
    const writer = createLetterWriter(bench.kafka, bench.names);
    bench.later(() => writer.close());
    const value = Buffer.from([0xc3, 0x01, 0xff, 0x00]);
    const letter = { cause: 'refused' as const, detail: 'mapper_parsing_exception at created_at', table: RUNS, key: row('an-id', '').key, version: row('', '').version, origin: { stage: 'sink' as const, topic: 't', partition: 1, offset: '7' }, value };
    await writer.park([letter, { ...letter, cause: 'row-gone', value: null }, { ...letter, value: Buffer.alloc(2_000_000, 1) }, letter]);
    const letters = await openDeadLetters(bench.kafka, bench.names, control);
    bench.later(() => letters.close());
    expect((await letters.groups()).map(({ cause, open }) => [cause, open])).toEqual([['refused', 3], ['row-gone', 1]]);
    const all = [];
    for await (const slice of letters.letters()) all.push(...slice);
    const first = await letters.get(all[0]!.id);
    expect(first).toMatchObject({ ...letter, state: 'open' });
    expect(first!.value!.equals(value)).toBe(true);
    await letters.accept(all[0]!, 'a test row');
    expect((await letters.get(all[0]!.id))?.state).toBe('accepted');
    await writer.park([letter, { ...letter, key: row('another-id', '').key }]);
    expect(await letters.groups()).toMatchObject([{ cause: 'refused', open: 1, accepted: 4, redriven: 0 }, { cause: 'row-gone', open: 1, accepted: 0 }]);
    for (const id of ['0:999999', '1:0', 'nonsense', '0:-1', '']) expect(await letters.get(id)).toBeUndefined();
  });
});
