import { setTimeout as sleep } from 'node:timers/promises';
import { release } from '../../core/release.ts';
import type { DecodedMessage } from './wire/decode-batches.ts';

/*
 * kafkajs hands an answer to Fetch to its workers and asks again when the last of them is through: while one partition
 * waits for Elasticsearch nothing is unpacked, and what comes in for the others waits too. Here the next answer is asked
 * for at once, without the partitions that are at work, as long as not too much is in memory (docs/decisions/0015).
 *
 * Two parts work together: the group's `fetch`, which knows what is at work of all brokers and so what to ask for and
 * when, and a loop for each broker, which hands on what it answers.
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

/** Unpacked bytes at work, of all brokers, above which nothing more is asked for. */
const AT_WORK_BYTES = 12 << 20;
/** Packed bytes of an answer that comes on top of what is at work. */
const AHEAD_BYTES = 1 << 20;
/** Pause after an answer without anything, while partitions of its broker are at work: as long as the broker would hold it otherwise. */
const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 320;

const nameOf = ({ topic, partition }: Pick<FetchedBatch, 'topic' | 'partition'>): string => `${topic}|${partition}`;

/** What is at work of one group: one batch of a partition, since a second one would overtake it. */
class AtWork {
  private readonly batches = new Map<string, { readonly nodeId: number; readonly bytes: number }>();
  private readonly pauses = new Map<number, number>();
  private ending = new AbortController();

  has(name: string): boolean {
    return this.batches.has(name);
  }

  get isEmpty(): boolean {
    return this.batches.size === 0;
  }

  get isFull(): boolean {
    let sum = 0;
    for (const { bytes } of this.batches.values()) sum += bytes;
    return sum > AT_WORK_BYTES;
  }

  /** Whether anything that this broker answered with is at work; it may not lead those partitions any more. */
  hasOf(nodeId: number): boolean {
    return [...this.batches.values()].some((batch) => batch.nodeId === nodeId);
  }

  add(nodeId: number, batch: FetchedBatch): void {
    const name = nameOf(batch);
    this.batches.set(name, { nodeId, bytes: batch.rawMessages.reduce((sum, { value }) => sum + (value?.length ?? 0), 0) });
    this.pauses.delete(nodeId);
    endOf.set(batch, () => {
      this.batches.delete(name);
      this.ending.abort();
      this.ending = new AbortController();
    });
  }

  /** Until a batch ends; not for ever, since the loop may have been stopped. */
  async anEnd(longestMs = LONGEST_PAUSE_MS): Promise<void> {
    await sleep(longestMs, undefined, { signal: this.ending.signal }).catch(() => undefined);
  }

  /** Twice as long each time, until the broker has something again. */
  async pause(nodeId: number): Promise<void> {
    const pauseMs = this.pauses.get(nodeId) ?? FIRST_PAUSE_MS;
    this.pauses.set(nodeId, Math.min(2 * pauseMs, LONGEST_PAUSE_MS));
    await this.anEnd(pauseMs);
  }
}

const atWorkOf = new WeakMap<object, AtWork>();
/** To be called once for each batch that the group's `fetch` has returned. */
const endOf = new WeakMap<FetchedBatch, () => void>();

/** Lets the group ask for what is not at work alone, and at once while anything of the same broker is. */
export function mendConsumerGroup(ConsumerGroup: GroupClass): void {
  const { fetch, getActiveTopicPartitions } = ConsumerGroup.prototype;
  Object.assign(ConsumerGroup.prototype, {
    async fetch(this: Group, nodeId: number): Promise<FetchedBatch[]> {
      let atWork = atWorkOf.get(this);
      if (!atWork) atWorkOf.set(this, (atWork = new AtWork()));
      if (atWork.isFull) {
        await atWork.anEnd();
        return [];
      }
      const others = (): Record<string, Set<number>> =>
        Object.fromEntries(Object.entries(getActiveTopicPartitions.call(this)).map(([topic, partitions]) => [topic, new Set([...partitions].filter((partition) => !atWork.has(nameOf({ topic, partition }))))]));
      const ahead: Partial<Group> = { maxWaitTime: atWork.hasOf(nodeId) ? 0 : this.maxWaitTime, maxBytes: AHEAD_BYTES, getActiveTopicPartitions: others };
      // A proxy, since a fetch that fails may join the group anew, which sets the group's own fields.
      const asking = atWork.isEmpty ? this : new Proxy(this, { get: (group, name) => (name in ahead ? ahead[name as keyof Group] : (group as never)[name]) });
      // The brokers answer for each partition that was asked for, most of them without a record. While a partition's
      // leader moves two of them may have been asked for it.
      const batches = (await fetch.call(asking, nodeId)).filter((batch) => batch.rawMessages.length > 0 && !atWork.has(nameOf(batch)));
      for (const batch of batches) atWork.add(nodeId, batch);
      if (batches.length === 0 && atWork.hasOf(nodeId)) await atWork.pause(nodeId);
      return batches;
    },
  } satisfies Partial<Group>);
}

interface FetcherOptions {
  readonly nodeId: number;
  readonly workerQueue: { push(...batches: FetchedBatch[]): Promise<void> };
  readonly fetch: (nodeId: number) => Promise<FetchedBatch[]>;
}

/** In place of kafkajs' consumer/fetcher: one loop for each broker. It ends, or throws, when all that it gave to the workers has ended. */
export function createFetcher({ nodeId, workerQueue, fetch }: FetcherOptions) {
  const handedOn = new Set<Promise<void>>();
  let isRunning = false;
  let ended: Promise<void> | undefined;
  let failure: { readonly error: unknown } | undefined;

  const handOn = (batch: FetchedBatch): void => {
    const done = workerQueue.push(batch).catch((error: unknown) => void (failure ??= { error })).finally(() => {
      endOf.get(batch)?.();
      for (const memory of new Set(batch.rawMessages.flatMap(({ batchContext }) => batchContext.memory ?? []))) release(memory);
      handedOn.delete(done);
    });
    handedOn.add(done);
  };

  const loop = async (): Promise<void> => {
    while (isRunning && !failure) {
      for (const batch of await fetch(nodeId)) {
        if (isRunning) handOn(batch);
        else endOf.get(batch)?.();
      }
    }
  };

  return {
    async start(): Promise<void> {
      if (isRunning) return;
      isRunning = true;
      const end = Promise.withResolvers<void>();
      ended = end.promise;
      try {
        await loop();
      } catch (error) {
        failure ??= { error };
      }
      isRunning = false;
      await Promise.all(handedOn);
      const failed = failure;
      failure = undefined;
      end.resolve();
      if (failed) throw failed.error;
    },
    /** Also of a loop that has failed already: another broker's, which ended first, may be the one that kafkajs knows of. */
    async stop(): Promise<void> {
      isRunning = false;
      await ended;
    },
    getWorkerQueue: () => workerQueue,
  };
}

/** A batch that waits for a worker, and what its push is told. */
interface Waiting {
  readonly batch: FetchedBatch;
  resolve(): void;
  reject(error: unknown): void;
}

interface WorkerOptions {
  readonly workerId: number;
  readonly handler: (batch: FetchedBatch, metadata: { readonly workerId: number }) => Promise<void>;
}

/**
 * In place of kafkajs' consumer/worker. Its workers count as busy for a moment after they found nothing to do, and all
 * are woken by each push: of the batches of one answer, which are pushed one by one here, the first got a worker and the
 * others waited behind it for as long as that one waited for Elasticsearch.
 */
export function createWorker({ workerId, handler }: WorkerOptions) {
  let isBusy = false;
  const work = async (first: Waiting, next: () => Waiting | undefined): Promise<void> => {
    isBusy = true;
    for (let waiting: Waiting | undefined = first; waiting; waiting = next()) await handler(waiting.batch, { workerId }).then(waiting.resolve, waiting.reject);
    isBusy = false;
  };
  return {
    /** Of every worker for every push: nothing but a look where it is not needed. */
    run({ next }: { next: () => Waiting | undefined }): void {
      const first = isBusy ? undefined : next();
      if (first) void work(first, next);
    },
  };
}
