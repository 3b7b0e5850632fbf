import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { release } from '../../core/release.ts';
import type { DecodedMessage } from './wire/decode-batches.ts';

/*
 * kafkajs hands an answer to Fetch to its workers and asks again when the last of them is through: while one partition
 * waits for Elasticsearch nothing is unpacked, and what comes in for the others waits too. Here the next answer is asked
 * for at once, without the partitions that are at work, as long as not too much is in memory (docs/decisions/0015).
 *
 * Two parts work together: the group's `fetch`, which knows what to ask for, and the loop around it.
 */

/** kafkajs' Batch, as far as it is needed here. */
interface FetchedBatch {
  readonly topic: string;
  readonly partition: number;
  readonly rawMessages: readonly Pick<DecodedMessage, 'value' | 'batchContext'>[];
}

interface Group {
  readonly maxWaitTime: number;
  readonly maxBytes: number;
  fetch(nodeId: number): Promise<FetchedBatch[]>;
  getActiveTopicPartitions(): Record<string, Set<number>>;
}

export interface GroupClass {
  readonly prototype: Group;
}

/** Unpacked bytes at work above which nothing more is asked for. */
const AT_WORK_BYTES = 12 << 20;
/** Packed bytes of an answer that comes on top of what is at work. */
const AHEAD_BYTES = 1 << 20;
/** Pause after an answer without anything, while partitions are at work: as long as the broker would hold it otherwise. */
const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 320;

const nameOf = ({ topic, partition }: Pick<FetchedBatch, 'topic' | 'partition'>): string => `${topic}|${partition}`;

/** Partitions at work by group: a second answer for one of them would overtake the first. */
const atWorkOf = new WeakMap<object, Set<string>>();
const releaseOf = new WeakMap<FetchedBatch, () => void>();

/** Lets the group ask for what is not at work alone, and at once while anything is. */
export function mendConsumerGroup(ConsumerGroup: GroupClass): void {
  const { fetch, getActiveTopicPartitions } = ConsumerGroup.prototype;
  Object.assign(ConsumerGroup.prototype, {
    async fetch(this: Group, nodeId: number): Promise<FetchedBatch[]> {
      let atWork = atWorkOf.get(this);
      if (!atWork) atWorkOf.set(this, (atWork = new Set()));
      const others = (): Record<string, Set<number>> =>
        Object.fromEntries(Object.entries(getActiveTopicPartitions.call(this)).map(([topic, partitions]) => [topic, new Set([...partitions].filter((partition) => !atWork.has(nameOf({ topic, partition }))))]));
      const ahead: Partial<Group> = { maxWaitTime: 0, maxBytes: AHEAD_BYTES, getActiveTopicPartitions: others };
      // A proxy, since a fetch that fails may join the group anew, which sets the group's own fields.
      const asking = atWork.size === 0 ? this : new Proxy(this, { get: (group, name) => (name in ahead ? ahead[name as keyof Group] : (group as never)[name]) });
      // The brokers answer for each partition that was asked for, most of them without a record.
      const batches = (await fetch.call(asking, nodeId)).filter(({ rawMessages }) => rawMessages.length > 0);
      for (const batch of batches) {
        const name = nameOf(batch);
        atWork.add(name);
        releaseOf.set(batch, () => void atWork.delete(name));
      }
      return batches;
    },
  } satisfies Partial<Group>);
}

interface FetcherOptions {
  readonly nodeId: number;
  readonly workerQueue: { push(...batches: FetchedBatch[]): Promise<void> };
  /** Which node's fetcher has a partition at work: its leader may move meanwhile. */
  readonly partitionAssignments: Map<string, number>;
  readonly fetch: (nodeId: number) => Promise<FetchedBatch[]>;
}

/** In place of kafkajs' consumer/fetcher: one loop for each broker. It ends, or throws, when all that was at work has ended. */
export function createFetcher({ nodeId, workerQueue, partitionAssignments, fetch }: FetcherOptions) {
  const emitter = new EventEmitter();
  const atWork = new Set<Promise<void>>();
  let isRunning = false;
  let bytesAtWork = 0;
  let failure: { readonly error: unknown } | undefined;

  const work = (batch: FetchedBatch): void => {
    const name = nameOf(batch);
    const bytes = batch.rawMessages.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
    partitionAssignments.set(name, nodeId);
    bytesAtWork += bytes;
    const done = workerQueue.push(batch).catch((error: unknown) => void (failure ??= { error })).finally(() => {
      partitionAssignments.delete(name);
      bytesAtWork -= bytes;
      releaseOf.get(batch)?.();
      for (const memory of new Set(batch.rawMessages.flatMap(({ batchContext }) => batchContext.memory ?? []))) release(memory);
      atWork.delete(done);
    });
    atWork.add(done);
  };

  const loop = async (): Promise<void> => {
    let pauseMs = FIRST_PAUSE_MS;
    while (isRunning && !failure) {
      const batches = await fetch(nodeId);
      const ours = batches.filter((batch) => isRunning && (partitionAssignments.get(nameOf(batch)) ?? nodeId) === nodeId);
      for (const batch of batches) {
        if (ours.includes(batch)) work(batch);
        else releaseOf.get(batch)?.();
      }
      if (ours.length > 0) pauseMs = FIRST_PAUSE_MS;
      while (bytesAtWork > AT_WORK_BYTES) await Promise.race(atWork);
      if (ours.length > 0 || atWork.size === 0) continue;
      const pause = new AbortController();
      await Promise.race([...atWork, sleep(pauseMs, undefined, { signal: pause.signal }).catch(() => undefined)]);
      pause.abort();
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  };

  return {
    async start(): Promise<void> {
      if (isRunning) return;
      isRunning = true;
      try {
        await loop();
      } catch (error) {
        failure ??= { error };
      }
      isRunning = false;
      await Promise.all(atWork);
      const failed = failure;
      failure = undefined;
      emitter.emit('end');
      if (failed) throw failed.error;
    },
    async stop(): Promise<void> {
      if (!isRunning) return;
      isRunning = false;
      await new Promise<void>((resolve) => emitter.once('end', resolve));
    },
    getWorkerQueue: () => workerQueue,
  };
}
