import { expect, it } from 'vitest';
import { createFetcher, type GroupClass, mendConsumerGroup } from '../../../src/pipeline/kafka/fetch-ahead.ts';

/*
 * The loop against a group and workers whose answers are given by hand. That it is what kafkajs runs, and that the
 * brokers answer so, is for the tests with servers (consumer.kafka.test.ts).
 */
type Batch = Awaited<ReturnType<GroupClass['prototype']['fetch']>>[number];
const batchContext = { producerId: '1', inTransaction: true, isControlBatch: false };
const batchOf = (partition: number, bytes = 10): Batch => ({ topic: 'runs', partition, rawMessages: bytes < 0 ? [] : [{ value: Buffer.alloc(bytes), batchContext }] });

interface Asked {
  readonly partitions: readonly number[];
  readonly maxWaitTime: number;
  readonly maxBytes: number;
  answer(batches: readonly Batch[]): void;
}

class FakeGroup {
  readonly maxWaitTime = 300;
  readonly maxBytes = 1_000;
  readonly asked: Asked[] = [];
  getActiveTopicPartitions(): Record<string, Set<number>> {
    return { runs: new Set([0, 1, 2]) };
  }
  fetch(_nodeId: number): Promise<Batch[]> {
    const { maxWaitTime, maxBytes } = this;
    return new Promise((answer) => this.asked.push({ partitions: [...this.getActiveTopicPartitions()['runs']!], maxWaitTime, maxBytes, answer: (batches) => answer([...batches]) }));
  }
}

function opened() {
  class Group extends FakeGroup {
    override fetch(nodeId: number): Promise<Batch[]> {
      return super.fetch(nodeId);
    }
  }
  mendConsumerGroup(Group);
  const group = new Group();
  const work = new Map<number, PromiseWithResolvers<void>>();
  const workerQueue = {
    push(batch: Batch): Promise<void> {
      const done = Promise.withResolvers<void>();
      work.set(batch.partition, done);
      return done.promise;
    },
  };
  const fetcher = createFetcher({ nodeId: 1, workerQueue, partitionAssignments: new Map(), fetch: (nodeId) => group.fetch(nodeId) });
  const running = fetcher.start();
  running.catch(() => undefined);
  return { group, work, fetcher, running, asked: (at: number) => until(() => group.asked[at]) };
}

async function until<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    await new Promise((done) => setImmediate(done));
  }
}

it('asks at once for what is not at work, and patiently for all when nothing is', async () => {
  const { work, fetcher, running, asked } = opened();
  const first = await asked(0);
  expect(first).toMatchObject({ partitions: [0, 1, 2], maxWaitTime: 300, maxBytes: 1_000 });
  first.answer([batchOf(0), batchOf(1, -1), batchOf(2, -1)]);
  const second = await asked(1);
  expect(second).toMatchObject({ partitions: [1, 2], maxWaitTime: 0 });
  second.answer([batchOf(2)]);
  const third = await asked(2);
  expect(third.partitions).toEqual([1]);
  work.get(0)!.resolve();
  work.get(2)!.resolve();
  third.answer([]);
  const last = await asked(3);
  expect(last).toMatchObject({ partitions: [0, 1, 2], maxWaitTime: 300 });
  const stopped = fetcher.stop();
  last.answer([]);
  await Promise.all([stopped, running]);
});

it('asks for nothing more while too many bytes are at work', async () => {
  const { group, work, fetcher, running, asked } = opened();
  (await asked(0)).answer([batchOf(0, 13 << 20)]);
  await until(() => work.get(0));
  await new Promise((done) => setTimeout(done, 50));
  expect(group.asked).toHaveLength(1);
  work.get(0)!.resolve();
  const next = await asked(1);
  const stopped = fetcher.stop();
  next.answer([]);
  await Promise.all([stopped, running]);
});

it('ends with the error of a batch when all others have ended, and can be started again', async () => {
  const { work, fetcher, running, asked } = opened();
  (await asked(0)).answer([batchOf(0), batchOf(1)]);
  const second = await asked(1);
  work.get(0)!.reject(new Error('the group is rebalancing'));
  second.answer([]);
  let ended = false;
  running.catch(() => undefined).finally(() => (ended = true));
  await new Promise((done) => setTimeout(done, 50));
  expect(ended).toBe(false);
  work.get(1)!.resolve();
  await expect(running).rejects.toThrow('the group is rebalancing');
  const again = fetcher.start();
  const third = await asked(2);
  expect(third.partitions).toEqual([0, 1, 2]);
  const stopped = fetcher.stop();
  third.answer([batchOf(1)]);
  await Promise.all([stopped, again]);
});

it('lets go of what came after it was stopped', async () => {
  const { group, work, fetcher, running, asked } = opened();
  const first = await asked(0);
  const stopped = fetcher.stop();
  first.answer([batchOf(0)]);
  await Promise.all([stopped, running]);
  expect(work.size).toBe(0);
  void group.fetch(1);
  expect((await asked(1)).partitions).toEqual([0, 1, 2]);
});

it('gives the memory of a batch back when its handler has ended, and not before', async () => {
  const { work, fetcher, running, asked } = opened();
  const memory = Buffer.alloc(200_000, 1);
  const rawMessages = [0, 100].map((at) => ({ value: memory.subarray(at, at + 100), batchContext: { ...batchContext, memory } }));
  (await asked(0)).answer([{ topic: 'runs', partition: 0, rawMessages }]);
  const second = await asked(1);
  expect(rawMessages.map(({ value }) => value.length)).toEqual([100, 100]);
  work.get(0)!.resolve();
  const stopped = fetcher.stop();
  second.answer([]);
  await Promise.all([stopped, running]);
  expect(rawMessages.map(({ value }) => value.length)).toEqual([0, 0]);
});
