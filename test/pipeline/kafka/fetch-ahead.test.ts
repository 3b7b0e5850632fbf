import { createRequire } from 'node:module';
import { expect, it } from 'vitest';
import { createFetcher, createWorker, type GroupClass, mendConsumerGroup } from '../../../src/pipeline/kafka/fetch-ahead.ts';

/*
 * The loop against a group and workers whose answers are given by hand. That it is what kafkajs runs, and that the
 * brokers answer so, is for the tests with servers (consumer.kafka.test.ts).
 */
type Batch = Awaited<ReturnType<GroupClass['prototype']['fetch']>>[number];
const batchContext = { producerId: '1', inTransaction: true, isControlBatch: false };
const batchOf = (partition: number, bytes = 10): Batch => ({ topic: 'runs', partition, rawMessages: bytes < 0 ? [] : [{ value: Buffer.alloc(bytes), batchContext }] });

interface Asked {
  readonly nodeId: number;
  readonly partitions: readonly number[];
  readonly maxWaitTime: number;
  readonly maxBytes: number;
  answer(batches: readonly Batch[]): void;
}

class FakeGroup {
  readonly maxWaitTime = 300;
  readonly maxBytes = 1_000;
  readonly asked: Asked[] = [];
  /** By partition. */
  leaders = [1, 1, 1];
  getActiveTopicPartitions(): Record<string, Set<number>> {
    return { runs: new Set([0, 1, 2]) };
  }
  fetch(nodeId: number): Promise<Batch[]> {
    const { maxWaitTime, maxBytes } = this;
    const partitions = [...this.getActiveTopicPartitions()['runs']!].filter((partition) => this.leaders[partition] === nodeId);
    return new Promise((answer) => this.asked.push({ nodeId, partitions, maxWaitTime, maxBytes, answer: (batches) => answer([...batches]) }));
  }
}

function opened(nodeIds: readonly number[] = [1]) {
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
  const fetchers = nodeIds.map((nodeId) => createFetcher({ nodeId, workerQueue, fetch: (node) => group.fetch(node) }));
  const runs = fetchers.map((fetcher) => fetcher.start());
  for (const running of runs) running.catch(() => undefined);
  const askedOf = (nodeId: number): Asked[] => group.asked.filter((asked) => asked.nodeId === nodeId);
  return { group, work, fetchers, fetcher: fetchers[0]!, runs, running: runs[0]!, askedOf, asked: (at: number, nodeId = 1) => until(() => askedOf(nodeId)[at]) };
}

/** What has been asked for is answered with nothing. */
async function stop({ group, fetchers, work }: Pick<ReturnType<typeof opened>, 'group' | 'fetchers' | 'work'>): Promise<void> {
  for (const { resolve } of work.values()) resolve();
  const stopped = fetchers.map((fetcher) => fetcher.stop());
  for (const { answer } of group.asked) answer([]);
  await Promise.all(stopped);
}

async function until<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    await turn();
  }
}

const turn = (): Promise<void> => new Promise((done) => void setImmediate(done));

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

it('asks a broker of which nothing is at work patiently, and the other one less and less often, until a batch ends', async () => {
  const all = opened([1, 2]);
  const { group, work, askedOf, asked } = all;
  group.leaders = [1, 1, 2];
  (await asked(0)).answer([batchOf(0)]);
  const atWork = await until(() => work.get(0));
  (await asked(0, 2)).answer([]);
  // As brokers do that have nothing: they answer at once where they are told not to wait.
  for (const began = Date.now(); Date.now() - began < 200; await turn()) {
    for (const { maxWaitTime, answer } of group.asked) if (maxWaitTime === 0) answer([]);
  }
  expect(askedOf(1).length).toBeLessThan(8);
  expect(askedOf(2)).toHaveLength(2);
  expect(askedOf(2)[1]).toMatchObject({ partitions: [2], maxWaitTime: 300, maxBytes: 1 << 20 });
  const before = askedOf(1).length;
  atWork.resolve();
  for (let turns = 0; turns < 10; turns++) await turn();
  expect(askedOf(1)[before]).toMatchObject({ partitions: [0, 1], maxWaitTime: 300 });
  await stop(all);
});

it('works on the first of two answers for a partition whose leader moves, and asks nobody for it until that has ended', async () => {
  const all = opened([1, 2]);
  const { group, work, asked } = all;
  const old = await asked(0);
  group.leaders = [2, 1, 1];
  (await asked(0, 2)).answer([]);
  const moved = await asked(1, 2);
  expect([old.partitions, moved.partitions]).toEqual([[0, 1, 2], [0]]);
  old.answer([batchOf(0)]);
  const atWork = await until(() => work.get(0));
  moved.answer([batchOf(0)]);
  const next = await asked(2, 2);
  expect(next.partitions).toEqual([]);
  expect(work.get(0)).toBe(atWork);
  atWork.resolve();
  next.answer([]);
  expect((await asked(3, 2)).partitions).toEqual([0]);
  await stop(all);
});

it('asks no broker for more while too many bytes of another are at work', async () => {
  const all = opened([1, 2]);
  const { group, work, askedOf, asked } = all;
  group.leaders = [1, 1, 2];
  (await asked(0)).answer([batchOf(0, 13 << 20)]);
  const atWork = await until(() => work.get(0));
  (await asked(0, 2)).answer([]);
  await new Promise((done) => setTimeout(done, 50));
  expect([askedOf(1).length, askedOf(2).length]).toEqual([1, 1]);
  atWork.resolve();
  expect((await asked(1, 2)).partitions).toEqual([2]);
  await stop(all);
});

it('has stopped when what a broker had at work has ended, also after an error', async () => {
  const { work, fetcher, running, asked } = opened();
  (await asked(0)).answer([batchOf(0), batchOf(1)]);
  const second = await asked(1);
  work.get(0)!.reject(new Error('the group is rebalancing'));
  second.answer([]);
  await new Promise((done) => setTimeout(done, 20));
  let stopped = false;
  const stopping = fetcher.stop().then(() => (stopped = true));
  await new Promise((done) => setTimeout(done, 20));
  expect(stopped).toBe(false);
  work.get(1)!.resolve();
  await stopping;
  await expect(running).rejects.toThrow('the group is rebalancing');
});

it('has a worker for each batch of an answer, as long as there are any, and gives a free one the next', async () => {
  const createWorkerQueue = createRequire(import.meta.url)('kafkajs/src/consumer/workerQueue') as (options: { workers: readonly ReturnType<typeof createWorker>[] }) => { push(...batches: Batch[]): Promise<void> };
  const begun: { readonly workerId: number; readonly partition: number }[] = [];
  const ends = new Map<number, PromiseWithResolvers<void>>();
  const handler = ({ partition }: Batch, { workerId }: { readonly workerId: number }): Promise<void> => {
    begun.push({ workerId, partition });
    const end = Promise.withResolvers<void>();
    ends.set(partition, end);
    return end.promise;
  };
  const queue = createWorkerQueue({ workers: [1, 2].map((workerId) => createWorker({ workerId, handler })) });
  const done = [0, 1, 2].map((partition) => queue.push(batchOf(partition)));
  expect(begun).toEqual([{ workerId: 1, partition: 0 }, { workerId: 2, partition: 1 }]);
  const failed = expect(done[1]).rejects.toThrow('the group is rebalancing');
  ends.get(1)!.reject(new Error('the group is rebalancing'));
  await failed;
  await until(() => begun[2]);
  expect(begun[2]).toEqual({ workerId: 2, partition: 2 });
  for (const { resolve } of ends.values()) resolve();
  await Promise.all([done[0], done[2]]);
});
