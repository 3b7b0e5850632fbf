import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ConsumedRecord } from '../../../src/core/contracts.ts';
import { partitionOf } from '../../../src/core/row-key.ts';
import { openGroupLag } from '../../../src/pipeline/kafka/group-lag.ts';
import { groupMembers, offsetsAtTime, setGroupPositions } from '../../../src/pipeline/kafka/group-rewind.ts';
import { isolate } from '../../support/servers.ts';
import { Bench, collecting, PARTITIONS, publish, row, RUNS, Seen } from './harness.ts';

const here = isolate(import.meta.filename);
const bench = new Bench(here.brokers, here.topicPrefix);
const topic = bench.names.table[RUNS];
const partition = partitionOf('an-id', PARTITIONS);
const back = [{ topic, partition, offset: 0n }];
let between = 0;

beforeAll(async () => {
  await bench.setup();
  const publisher = await bench.publisher();
  await publish(publisher, row('an-id', 'first', '0/100'));
  await sleep(20);
  between = Date.now();
  await sleep(20);
  await publish(publisher, row('an-id', 'second', '0/200'));
});
afterAll(() => bench.close());

it('is refused by the broker itself while the group has a member, and changes nothing then', async () => {
  const consumer = bench.consumer(here.group);
  const seen = new Seen<ConsumedRecord>();
  await consumer.start(collecting(consumer, seen));
  await seen.until((items) => items.length === 2);
  const lag = await openGroupLag(bench.kafka, bench.names, here.group, [RUNS]);
  bench.later(() => lag.close());
  const ends = await lag.endOffsets();
  while (!(await lag.isDrainedTo(ends))) await sleep(20);
  expect(await groupMembers(bench.kafka, here.group)).toHaveLength(1);
  await expect(setGroupPositions(bench.kafka, here.group, back)).rejects.toMatchObject({ code: 'GROUP_BUSY' });
  expect(await lag.isDrainedTo(ends)).toBe(true);

  await consumer.stop();
  expect(await groupMembers(bench.kafka, here.group)).toEqual([]);
  await setGroupPositions(bench.kafka, here.group, back);
  expect(await lag.isDrainedTo(ends)).toBe(false);
  expect((await lag.lag()).find((one) => one.partition === partition)?.committed).toBe(0n);
});

it('is where the group goes on: what was settled before comes again', async () => {
  const consumer = bench.consumer(here.group);
  const seen = new Seen<ConsumedRecord>();
  await consumer.start(collecting(consumer, seen));
  expect((await seen.until((items) => items.length === 2)).map(({ headers }) => headers.lsn)).toEqual(['0/100', '0/200']);
  await consumer.stop();
});

it('finds the first offset of a time, and the end where nothing was written since', async () => {
  const [first, second] = (await bench.messages(topic)).map(({ offset }) => BigInt(offset));
  expect((await offsetsAtTime(bench.kafka, topic, 0)).get(partition)).toBe(first);
  // The marker that ended the first transaction may have come after `between`: the brokers write it after they have answered.
  const found = (await offsetsAtTime(bench.kafka, topic, between)).get(partition)!;
  expect(found > first! && found <= second!, `${found}`).toBe(true);
  expect((await offsetsAtTime(bench.kafka, topic, Date.now() + 60_000)).get(partition)).toBeGreaterThan(second!);
});
