import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ConsumedRecord } from '../../../src/core/contracts.ts';
import { DifyEsError } from '../../../src/core/errors.ts';
import { partitionOf } from '../../../src/core/row-key.ts';
import { decodeKey } from '../../../src/pipeline/encode/key-codec.ts';
import { decodeRow } from '../../../src/pipeline/encode/row-codec.ts';
import type { Assignment, Delivery } from '../../../src/pipeline/kafka/consumer.ts';
import { openGroupLag } from '../../../src/pipeline/kafka/group-lag.ts';
import { withAdmin } from '../../../src/pipeline/kafka/topics.ts';
import { isolate } from '../../support/servers.ts';
import { benchFor } from './bench-for.ts';
import { Bench, collecting, PARTITIONS, publish, row, RUNS, Seen } from './harness.ts';

const here = isolate(import.meta.filename);
let shared: Bench;
beforeAll(async () => {
  shared = new Bench(here.brokers, here.topicPrefix);
  await shared.setup();
});
afterAll(() => shared.close());

const textOf = (record: ConsumedRecord): string => decodeRow(record.value!, 4).get(3)!.toString();
const group = (): string => `${here.group}-${randomUUID()}`;
/** A prefix of its own: topics of its own. */
const own = async (): Promise<Bench> => {
  const bench = benchFor(shared, `${here.topicPrefix}-${randomUUID().slice(0, 8)}`);
  await bench.setup();
  return bench;
};
const idIn = (partition: number): string => {
  let id = randomUUID();
  while (partitionOf(id, PARTITIONS) !== partition) id = randomUUID();
  return id;
};
const ids = (count: number): string[] => Array.from({ length: count }, () => randomUUID());

describe('a consumer', () => {
  it('delivers every record once and in order, and the next one of the group goes on where it committed', async () => {
    const bench = await own();
    const publisher = await bench.publisher();
    const groupId = group();
    const some = ids(50);
    await publish(publisher, ...some.map((id) => row(id, 'one')));
    const [first, committed] = [new Seen<ConsumedRecord>(), new Seen<Delivery>()];
    const consumer = bench.consumer(groupId);
    await consumer.start(collecting(consumer, first, committed));
    await committed.until((all) => all.flatMap(({ records }) => records).length >= 50);
    await consumer.stop();
    await publish(publisher, ...some.map((id) => row(id, 'two')));
    const second = new Seen<ConsumedRecord>();
    const next = bench.consumer(groupId);
    await next.start(collecting(next, second));
    await second.until((all) => all.length >= 50);
    expect(first.items.map((record) => decodeKey(record.key).id).sort()).toEqual([...some].sort());
    expect(second.items.map(textOf)).toEqual(Array.from({ length: 50 }, () => 'two'));
    expect(second.items[0]).toMatchObject({ table: RUNS, headers: { version: row('', '').version, op: 'c', lsn: '0/100', timeMs: 1_760_000_000_000 } });
    for (const { partition, key } of second.items) expect(partition).toBe(partitionOf(decodeKey(key).id, PARTITIONS));
  });

  it('brings again what was not committed, to whoever comes next', async () => {
    const bench = await own();
    const groupId = group();
    await publish(await bench.publisher(), ...ids(10).map((id) => row(id, 'x')));
    const seen = new Seen<ConsumedRecord>();
    const forgetful = bench.consumer(groupId);
    await forgetful.start(async ({ records }) => seen.add(...records));
    await seen.until((all) => all.length >= 10);
    await forgetful.stop();
    const again = new Seen<ConsumedRecord>();
    const careful = bench.consumer(groupId);
    await careful.start(collecting(careful, again));
    await again.until((all) => all.length >= 10);
    expect(again.items.map(({ offset, partition }) => `${partition}:${offset}`).sort()).toEqual(seen.items.map(({ offset, partition }) => `${partition}:${offset}`).sort());
  });

  it('brings the same records again when the handler throws, and gives up at once on an error with a cure', async () => {
    const bench = await own();
    await publish(await bench.publisher(), row(randomUUID(), 'x'));
    const seen = new Seen<string>();
    const consumer = bench.consumer(group());
    await consumer.start(async ({ records }) => {
      if (records.length === 0) return;
      seen.add(textOf(records[0]!));
      if (seen.items.length === 1) throw new Error('passing trouble');
      throw new DifyEsError('ES_AUTH', 'wrong password');
    });
    await expect(consumer.failed).rejects.toMatchObject({ code: 'ES_AUTH' });
    expect(seen.items).toEqual(['x', 'x']);
  });

  it('never delivers aborted records, and takes the group behind them', async () => {
    const bench = await own();
    const publisher = await bench.publisher();
    const lag = await openGroupLag(bench.kafka, bench.names, group(), [RUNS]);
    await lag.close();
    const groupId = group();
    const id = randomUUID();
    for (let round = 0; round < 3; round++) {
      const aborted = await publisher.begin();
      await aborted.send([row(id, 'aborted'), row(randomUUID(), 'aborted')]);
      await aborted.abort();
      await publish(publisher, row(id, `committed ${round}`));
    }
    const seen = new Seen<ConsumedRecord>();
    const consumer = bench.consumer(groupId);
    await consumer.start(collecting(consumer, seen));
    await seen.until((all) => all.length >= 3);
    expect(seen.items.map(textOf)).toEqual(['committed 0', 'committed 1', 'committed 2']);
  });

  it('goes on with the other partitions while one is at work, and brings nothing more of that one before it is done', async () => {
    const bench = await own();
    const publisher = await bench.publisher();
    const [stuckId, other] = [idIn(0), idIn(1)];
    await publish(publisher, row(stuckId, 'first'));
    const seen = new Seen<string>();
    const release = Promise.withResolvers<void>();
    let atWork = 0;
    const consumer = bench.consumer(group());
    await consumer.start(async ({ partition, records, table, nextOffset }) => {
      if (partition === 0) expect(++atWork).toBe(1);
      seen.add(...records.map(textOf));
      if (records.some((record) => textOf(record) === 'first')) await release.promise;
      if (partition === 0) atWork--;
      await consumer.commit(table, partition, nextOffset);
    });
    await seen.until((all) => all.includes('first'));
    for (const text of ['a', 'b', 'c']) {
      await publish(publisher, row(stuckId, `stuck ${text}`), row(other, text));
      await seen.until((all) => all.includes(text));
    }
    expect(seen.items).toEqual(['first', 'a', 'b', 'c']);
    release.resolve();
    await seen.until((all) => all.length >= 7);
    expect(seen.items.slice(4)).toEqual(['stuck a', 'stuck b', 'stuck c']);
  });

  it('handles the partitions of one answer side by side', async () => {
    const bench = await own();
    const all = Array.from({ length: PARTITIONS }, (_, partition) => partition);
    await publish(await bench.publisher(), ...all.map((partition) => row(idIn(partition), 'x')));
    const begun = new Seen<number>();
    const release = Promise.withResolvers<void>();
    const consumer = bench.consumer(group());
    await consumer.start(async ({ partition, records, table, nextOffset }) => {
      if (records.length > 0) {
        begun.add(partition);
        await release.promise;
      }
      await consumer.commit(table, partition, nextOffset);
    });
    await begun.until((partitions) => partitions.length === PARTITIONS);
    release.resolve();
  });

  it('delivers a record of 20 MiB beside small ones', async () => {
    const bench = await own();
    await publish(await bench.publisher(), row(randomUUID(), 'small'), row(randomUUID(), Buffer.alloc(20 * 1024 * 1024, 0x61)), row(randomUUID(), 'small'));
    const seen = new Seen<ConsumedRecord>();
    const consumer = bench.consumer(group());
    await consumer.start(collecting(consumer, seen));
    await seen.until((all) => all.length >= 3);
    expect(Math.max(...seen.items.map((record) => record.value!.length))).toBeGreaterThan(20 * 1024 * 1024);
  });

  it('stays a member while its handler waits longer than the session, and stops', async () => {
    const bench = await own();
    const publisher = await bench.publisher();
    await publish(publisher, row(randomUUID(), 'slow'));
    const assignments = new Seen<readonly Assignment[]>();
    const started = new Seen<boolean>();
    const release = Promise.withResolvers<void>();
    const consumer = bench.consumer(group(), { sessionTimeoutMs: 6_000 });
    let stale: boolean | undefined;
    await consumer.start(async ({ table, partition, records, nextOffset }, control) => {
      if (records.length === 0) return;
      started.add(true);
      await release.promise;
      stale = control.isStale();
      await consumer.commit(table, partition, nextOffset);
      started.add(true);
    }, (assignment) => assignments.add(assignment));
    await started.until((all) => all.length >= 1);
    await new Promise((resolve) => setTimeout(resolve, 9_000));
    release.resolve();
    await started.until((all) => all.length >= 2);
    expect(stale).toBe(false);
    expect(assignments.items).toHaveLength(1);
    // within 10 s by its own limits; that it ends at all is what a busy machine can be asked
    await consumer.stop();
  });

  it('shares the partitions with a second member and takes them over when that one leaves', async () => {
    const bench = await own();
    const publisher = await bench.publisher();
    const groupId = group();
    const [seenA, seenB] = [new Seen<ConsumedRecord>(), new Seen<ConsumedRecord>()];
    const assigned = new Seen<number>();
    const count = (assignment: readonly Assignment[]): number => assignment.flatMap(({ partitions }) => partitions).length;
    const a = bench.consumer(groupId);
    const b = bench.consumer(groupId);
    await a.start(collecting(a, seenA), (assignment) => assigned.add(count(assignment)));
    expect(assigned.items).toEqual([PARTITIONS]);
    await b.start(collecting(b, seenB));
    await assigned.until((all) => all.at(-1)! < PARTITIONS);
    const some = ids(60);
    await publish(publisher, ...some.map((id) => row(id, 'shared')));
    await Promise.race([seenA.until(() => seenA.items.length + seenB.items.length >= 60), seenB.until(() => seenA.items.length + seenB.items.length >= 60)]);
    expect(seenA.items.length).toBeGreaterThan(0);
    expect(seenB.items.length).toBeGreaterThan(0);
    await b.stop();
    await assigned.until((all) => all.at(-1)! === PARTITIONS);
    await publish(publisher, ...some.map((id) => row(id, 'after')));
    await seenA.until((all) => new Set(all.filter((record) => textOf(record) === 'after').map((record) => decodeKey(record.key).id)).size >= 60);
  });

  it('is told that a batch in its hand is stale when the partitions move meanwhile, and what it did not commit comes again', async () => {
    const bench = await own();
    const publisher = await bench.publisher();
    const groupId = group();
    const id = randomUUID();
    await publish(publisher, row(id, 'in hand'));
    const [inHand, stale, again] = [new Seen<boolean>(), new Seen<boolean>(), new Seen<ConsumedRecord>()];
    const a = bench.consumer(groupId);
    const b = bench.consumer(groupId);
    await a.start(async ({ table, partition, records, nextOffset }, control) => {
      if (records.length > 0 && inHand.items.length === 0) {
        inHand.add(true);
        await expect.poll(() => control.isStale(), { timeout: 30_000 }).toBe(true);
        stale.add(true);
        // as the sink does: the partition may belong to another member
        return;
      }
      again.add(...records);
      await a.commit(table, partition, nextOffset);
    });
    await inHand.until((all) => all.length === 1);
    // The group waits for A, which learns of it with a heartbeat, in mid-batch.
    await b.start(collecting(b, again));
    await stale.until((all) => all.length === 1);
    await again.until((all) => all.some((record) => decodeKey(record.key).id === id));
  });

  it('starts at the beginning when its position is no longer in the log, on either side', async () => {
    const bench = await own();
    const groupId = group();
    const publisher = await bench.publisher();
    const id = randomUUID();
    const topic = bench.names.table[RUNS];
    await publish(publisher, row(id, 'one'), row(id, 'two'));
    await withAdmin(bench.kafka, 'set offsets', (admin) => admin.setOffsets({ groupId, topic, partitions: Array.from({ length: PARTITIONS }, (_, partition) => ({ partition, offset: '5000' })) }));
    const seen = new Seen<ConsumedRecord>();
    const consumer = bench.consumer(groupId);
    await consumer.start(collecting(consumer, seen));
    await seen.until((all) => all.length >= 2);
    expect(seen.items.map(textOf)).toEqual(['one', 'two']);
  });

  it('says at its start that topics are missing', async () => {
    const bench = benchFor(shared, `${here.topicPrefix}-none`);
    await expect(bench.consumer(group()).start(async () => undefined)).rejects.toMatchObject({ code: 'KAFKA_TOPIC_MISSING' });
  });
});

describe('lag', () => {
  it('is drained exactly when no record is left, whatever markers end the log', async () => {
    const bench = await own();
    const groupId = group();
    const publisher = await bench.publisher();
    const lag = await openGroupLag(bench.kafka, bench.names, groupId, [RUNS]);
    bench.later(() => lag.close());
    expect(await lag.isDrainedTo(await lag.endOffsets())).toBe(true);

    await publish(publisher, row('00000000-0000-4000-8000-000000000001', 'x'));
    const ends = await lag.endOffsets();
    expect(await lag.isDrainedTo(ends)).toBe(false);

    // Committed behind the record, but before its marker, as a sink without our care would leave it.
    const deliveries = new Seen<Delivery>();
    const consumer = bench.consumer(groupId);
    await consumer.start(async (delivery) => {
      if (delivery.records.length > 0) {
        await consumer.commit(delivery.table, delivery.partition, (BigInt(delivery.records.at(-1)!.offset) + 1n).toString());
        deliveries.add(delivery);
      }
    });
    await deliveries.until((all) => all.length >= 1);
    expect((await lag.lag()).some(({ behind, committed }) => committed !== null && behind > 0n)).toBe(true);
    expect(await lag.isDrainedTo(ends)).toBe(true);
    await consumer.stop();

    const aborted = await publisher.begin();
    await aborted.send(ids(20).map((id) => row(id, 'aborted')));
    const open = await lag.endOffsets();
    expect(await lag.isDrainedTo(open)).toBe(false);
    await aborted.abort();
    expect(await lag.isDrainedTo(await lag.endOffsets())).toBe(true);

    await publish(publisher, row(randomUUID(), 'y'));
    expect(await lag.isDrainedTo(await lag.endOffsets())).toBe(false);
    expect(await lag.isDrainedTo(ends)).toBe(true);

    // Under traffic the group is soon beyond the ends that were asked about.
    await publish(publisher, row('00000000-0000-4000-8000-000000000001', 'z'));
    const beyond = new Seen<Delivery>();
    const next = bench.consumer(groupId);
    await next.start(async (delivery) => {
      await next.commit(delivery.table, delivery.partition, delivery.nextOffset);
      if (delivery.records.some(({ key }) => key.includes('00000000-0000-4000-8000-000000000001'))) beyond.add(delivery);
    });
    await beyond.until((all) => all.length >= 1);
    expect(await lag.isDrainedTo(ends)).toBe(true);
    await next.stop();
  });

  it('comes to nothing when the consumer is idle, since positions behind markers are delivered too', async () => {
    const bench = await own();
    const groupId = group();
    const publisher = await bench.publisher();
    const deliveries = new Seen<Delivery>();
    const consumer = bench.consumer(groupId);
    await consumer.start(collecting(consumer, new Seen(), deliveries));
    for (let round = 0; round < 5; round++) {
      await publish(publisher, ...ids(5).map((id) => row(id, 'x')));
      const aborted = await publisher.begin();
      await aborted.send(ids(5).map((id) => row(id, 'aborted')));
      await aborted.abort();
    }
    const lag = await openGroupLag(bench.kafka, bench.names, groupId, [RUNS]);
    bench.later(() => lag.close());
    await expect.poll(async () => (await lag.lag()).every(({ behind }) => behind === 0n), { timeout: 20_000 }).toBe(true);
    expect(deliveries.items.some(({ records }) => records.length === 0)).toBe(true);
  });
});
