import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partitionOf } from '../../../src/core/row-key.ts';
import { stateKeys, type SchemaRecord } from '../../../src/core/state.ts';
import { decodeRow, fingerprintOf } from '../../../src/pipeline/encode/row-codec.ts';
import { decodeKey } from '../../../src/pipeline/encode/key-codec.ts';
import { parseLetter } from '../../../src/pipeline/kafka/letter-format.ts';
import { withAdmin } from '../../../src/pipeline/kafka/topics.ts';
import { isolate } from '../../support/servers.ts';
import { benchFor } from './bench-for.ts';
import { Bench, PARTITIONS, publish, row, RUNS } from './harness.ts';

const here = isolate(import.meta.filename);
let shared: Bench;
beforeAll(async () => {
  shared = new Bench(here.brokers, here.topicPrefix);
  await shared.setup();
});
afterAll(() => shared.close());

const texts = async (bench: Bench): Promise<string[]> => (await bench.messages(bench.names.table[RUNS])).map(({ value }) => (value ? decodeRow(value, 4).get(3)!.toString() : 'gone'));

describe('a transaction', () => {
  it('is seen as a whole after its commit and not at all before', async () => {
    const bench = benchFor(shared);
    const publisher = await bench.publisher();
    const transaction = await publisher.begin();
    const marks = [randomUUID(), randomUUID()];
    await transaction.send([row(randomUUID(), marks[0]!)]);
    await transaction.send([row(randomUUID(), marks[1]!)]);
    const reader = (await import('../../../src/pipeline/kafka/partition-reader.ts')).createPartitionReader(bench.kafka);
    await reader.connect([bench.names.table[RUNS]]);
    for (const partition of reader.partitions(bench.names.table[RUNS])) {
      const { messages } = await reader.read(bench.names.table[RUNS], partition, 0n, { maxWaitMs: 50, maxBytes: 1 << 20 });
      for (const { value } of messages) expect(marks).not.toContain(decodeRow(value!, 4).get(3)!.toString());
    }
    await reader.close();
    await transaction.commit();
    expect(await texts(bench)).toEqual(expect.arrayContaining(marks));
  });

  it('that was aborted never shows its records, also between two that were committed', async () => {
    const bench = benchFor(shared);
    const publisher = await bench.publisher();
    const id = randomUUID();
    await publish(publisher, row(id, `${id} first`));
    const aborted = await publisher.begin();
    await aborted.send([row(id, `${id} aborted`)]);
    await aborted.abort();
    await publish(publisher, row(id, `${id} last`));
    expect((await texts(bench)).filter((text) => text.startsWith(id))).toEqual([`${id} first`, `${id} last`]);
  });

  it('stays hidden when it began before another one and was aborted after it', async () => {
    const bench = benchFor(shared);
    const [a, b] = [await bench.publisher(), await bench.publisher()];
    const id = randomUUID();
    const [first, second] = [await a.begin(), await b.begin()];
    await first.send([row(id, `${id} A`)]);
    await second.send([row(id, `${id} B`)]);
    await first.send([row(id, `${id} A again`)]);
    await second.abort();
    await first.send([row(id, `${id} A at last`)]);
    await first.abort();
    await publish(a, row(id, `${id} committed`));
    expect((await texts(bench)).filter((text) => text.startsWith(id))).toEqual([`${id} committed`]);
  });

  it('keeps the order of a row over many sends that nobody waited for', async () => {
    const bench = benchFor(shared);
    const publisher = await bench.publisher();
    const id = randomUUID();
    const transaction = await publisher.begin();
    const others = Array.from({ length: 200 }, () => randomUUID());
    await Promise.all(Array.from({ length: 30 }, (_, index) => transaction.send([...others.map((other) => row(other, 'x'.repeat(3000))), row(id, `${id} ${index}`)])));
    await transaction.commit();
    expect((await texts(bench)).filter((text) => text.startsWith(id))).toEqual(Array.from({ length: 30 }, (_, index) => `${id} ${index}`));
  });

  it('refuses further calls after a failure and lets a new one begin', async () => {
    const bench = benchFor(shared);
    const publisher = await bench.publisher();
    const id = randomUUID();
    const transaction = await publisher.begin();
    await transaction.send([row(id, `${id} lost`)]);
    await expect(transaction.putControl('x', 1n)).rejects.toThrow();
    await expect(transaction.commit()).rejects.toMatchObject({ code: 'KAFKA_UNREACHABLE' });
    await transaction.abort();
    await transaction.abort();
    await publish(publisher, row(id, `${id} kept`));
    expect((await texts(bench)).filter((text) => text.startsWith(id))).toEqual([`${id} kept`]);
  });

  it('without records costs the brokers nothing and ends well', async () => {
    const publisher = await benchFor(shared).publisher();
    await (await publisher.begin()).commit();
    await (await publisher.begin()).abort();
    const empty = await publisher.begin();
    await empty.send([]);
    await empty.commit();
  });
});

describe('a record', () => {
  it('has the partition of its id, the Avro key and headers with every digit', async () => {
    const bench = benchFor(shared);
    const id = randomUUID();
    await publish(await bench.publisher(), row(id, 'plain', 'FFFFF/FFFFFFFF'));
    const all = await bench.messages(bench.names.table[RUNS]);
    const mine = all.find(({ key }) => decodeKey(key!).id === id)!;
    expect(mine.headers['version']?.toString()).toBe((2n ** 53n - 1n).toString());
    expect(mine.headers['lsn']?.toString()).toBe('FFFFF/FFFFFFFF');
    expect(mine.headers['op']?.toString()).toBe('c');
    const reader = (await import('../../../src/pipeline/kafka/partition-reader.ts')).createPartitionReader(bench.kafka);
    await reader.connect([bench.names.table[RUNS]]);
    const { messages } = await reader.read(bench.names.table[RUNS], partitionOf(id, PARTITIONS), BigInt(mine.offset), { maxWaitMs: 1000, maxBytes: 1 << 20 });
    await reader.close();
    expect(messages.map(({ key }) => decodeKey(key!).id)).toContain(id);
  });

  it('finds its schema on the control topic as soon as anybody can see it', async () => {
    const bench = benchFor(shared);
    const control = await bench.control();
    const shape = { table: RUNS, columns: ['id', 'tenant_id', 'created_at', 'inputs', `added_${randomBytes(4).toString('hex')}`] };
    const publisher = await bench.publisher();
    const transaction = await publisher.begin();
    await transaction.send([row(randomUUID(), 'new shape', '0/100', shape)]);
    await control.refresh();
    const hex = control.entries<SchemaRecord>('schema/').find(([, { columns }]) => columns.at(-1) === shape.columns.at(-1))?.[0];
    expect(hex).toBeDefined();
    await transaction.commit();
    const value = (await bench.messages(bench.names.table[RUNS])).map((message) => message.value!).find((one) => stateKeys.schema(fingerprintOf(one)) === hex);
    expect(decodeRow(value!, 5)).toHaveLength(5);
  });

  it.each(['zstd', 'none', 'gzip'] as const)('of 20 MiB that does not pack passes, with %s', async (compression) => {
    const bench = benchFor(shared);
    const id = randomUUID();
    const big = randomBytes(20 * 1024 * 1024 - 1000);
    await publish(await bench.publisher({ compression }), row(randomUUID(), 'before'), row(id, big), row(randomUUID(), 'after'));
    const found = (await bench.messages(bench.names.table[RUNS])).find(({ key }) => decodeKey(key!).id === id);
    expect(decodeRow(found!.value!, 4).get(3)!.equals(big)).toBe(true);
  });

  it('beyond what Kafka takes is parked by its key and the rest of the batch goes on', async () => {
    const bench = benchFor(shared);
    const ids = [randomUUID(), randomUUID()];
    await publish(await bench.publisher(), row(ids[0]!, Buffer.alloc(23 * 1024 * 1024, 0x61)), row(ids[1]!, 'small'));
    const keys = (await bench.messages(bench.names.table[RUNS])).map(({ key }) => decodeKey(key!).id);
    expect(keys).toContain(ids[1]);
    expect(keys).not.toContain(ids[0]);
    const letters = (await bench.messages(bench.names.dlq)).map(({ headers, value }) => parseLetter(headers, value)!);
    expect(letters.find(({ key }) => key?.id === ids[0])).toMatchObject({ cause: 'row-too-large', value: null, table: RUNS, origin: { stage: 'stream', lsn: '0/100' }, version: row('', '').version });
  });
});

describe('a topic that takes less than before', () => {
  it('is asked for its limit again: what fits goes on, what does not is parked', async () => {
    const bench = benchFor(shared, `${here.topicPrefix}-less`);
    await bench.setup();
    const publisher = await bench.publisher({ compression: 'none' });
    const before = randomUUID();
    await publish(publisher, row(before, Buffer.alloc(2_000_000, 0x61)));
    await withAdmin(bench.kafka, 'lower the limit', (admin) =>
      admin.alterConfigs({ validateOnly: false, resources: Object.values(bench.names.table).map((name) => ({ type: 2, name, configEntries: [{ name: 'cleanup.policy', value: 'compact' }, { name: 'max.message.bytes', value: '600000' }] })) }),
    );
    const [large, small] = [randomUUID(), Array.from({ length: 20 }, () => randomUUID())];
    const refused = await (async () => {
      for (;;) {
        const transaction = await publisher.begin();
        const error: unknown = await transaction.send([row(large, Buffer.alloc(2_000_000, 0x61))]).then(() => undefined, (failure: unknown) => failure);
        await transaction.abort();
        if (error) return error;
      }
    })();
    expect(refused).toMatchObject({ code: 'KAFKA_UNREACHABLE' });
    await publish(publisher, row(large, Buffer.alloc(2_000_000, 0x61)), ...small.map((id) => row(id, 'x'.repeat(100_000))));
    const keys = (await bench.messages(bench.names.table[RUNS])).map(({ key }) => decodeKey(key!).id);
    // of several partitions, so in no order
    expect(keys.sort()).toEqual([before, ...small].sort());
    expect((await bench.messages(bench.names.dlq)).map(({ headers, value }) => parseLetter(headers, value)?.key?.id)).toEqual([large]);
  });
});

describe('a dead letter and progress', () => {
  it('belong to the transaction: both come with the commit and with nothing less', async () => {
    const bench = benchFor(shared);
    const control = await bench.control();
    const publisher = await bench.publisher();
    const key = `test/${randomUUID()}`;
    const letter = { cause: 'row-gone' as const, detail: key, table: RUNS, key: null, version: null, origin: { stage: 'stream' as const }, value: null };
    const aborted = await publisher.begin();
    await aborted.putControl(key, 'aborted');
    await aborted.park([letter]);
    await aborted.abort();
    await control.refresh();
    expect(control.get(key)).toBeUndefined();
    const committed = await publisher.begin();
    await committed.putControl(key, 'committed');
    await committed.park([letter]);
    await committed.commit();
    await control.refresh();
    expect(control.get(key)).toBe('committed');
    const details = (await bench.messages(bench.names.dlq)).map(({ headers, value }) => parseLetter(headers, value)!.detail);
    expect(details.filter((detail) => detail === key)).toHaveLength(1);
  });
});
