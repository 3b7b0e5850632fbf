import { setTimeout as sleep } from 'node:timers/promises';
import { DifyEsError } from '../../core/errors.ts';
import { classifyKafkaError, toDifyEsError } from './kafka-errors.ts';
import { withinMs } from './patience.ts';
import { KafkaBatch, type KafkaClient } from './kafkajs.ts';
import type { DecodedMessage } from './wire/decode-batches.ts';

/*
 * Reads partitions without a consumer group: from any offset, at once. A group would cost each one-shot verb the
 * brokers' initial rebalance delay (3 s by default) and leave a group behind after a kill. kafkajs has no assign(), so
 * this uses the cluster object beneath it, made by the same function with the same TLS and SASL settings.
 */

const READ_COMMITTED = 1;
const READ_UNCOMMITTED = 0;

export interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  isConnected(): boolean;
  addTargetTopic(topic: string): Promise<void>;
  refreshMetadata(): Promise<void>;
  refreshMetadataIfNecessary(): Promise<void>;
  removeBroker(address: { host: string; port: number }): void;
  findLeaderForPartitions(topic: string, partitions: readonly number[]): Record<string, number[]>;
  findTopicPartitionMetadata(topic: string): readonly { partitionId: number }[];
  findBroker(node: { nodeId: string }): Promise<Broker>;
  findGroupCoordinator(group: { groupId: string }): Promise<Coordinator>;
  fetchTopicsOffset(topics: readonly { topic: string; partitions: readonly { partition: number }[]; fromBeginning: boolean }[]): Promise<{ topic: string; partitions: { partition: number; offset: string }[] }[]>;
}

export interface Coordinator {
  offsetCommit(request: unknown): Promise<unknown>;
}

interface Broker {
  fetch(request: unknown): Promise<{ responses: { topicName: string; partitions: ({ partition: number } & Record<string, unknown>)[] }[] }>;
}

/** Throws INTERNAL when kafkajs hides it otherwise. */
export function createCluster(kafka: KafkaClient): Cluster {
  const symbol = Object.getOwnPropertySymbols(kafka).find(({ description }) => description === 'private:Kafka:createCluster');
  if (!symbol) throw new DifyEsError('INTERNAL', 'kafkajs has no cluster to read with');
  const create = (kafka as unknown as Record<symbol, (options: unknown) => Cluster>)[symbol]!;
  return create({ metadataMaxAge: 300_000, allowAutoTopicCreation: false, isolationLevel: READ_UNCOMMITTED });
}

export interface Slice {
  /** Committed records only, no markers. */
  readonly messages: readonly DecodedMessage[];
  /** Where to read on: behind markers and aborted records too, so it may move although there is no message. */
  readonly next: bigint;
}

export interface ReadOptions {
  /** How long the broker holds the answer while there is nothing. */
  readonly maxWaitMs: number;
  readonly maxBytes: number;
}

export interface PartitionReader {
  /** Throws KAFKA_TOPIC_MISSING when there is no such topic. */
  connect(topics: readonly string[]): Promise<void>;
  partitions(topic: string): readonly number[];
  /**
   * One fetch, read_committed. An offset that the log no longer has continues at its beginning, and says so by
   * `restarted`.
   */
  read(topic: string, partition: number, from: bigint, options: ReadOptions): Promise<Slice & { readonly restarted: boolean }>;
  /** The first offset of each partition, or the one behind the last (records of open transactions included). */
  offsets(topic: string, which: 'beginning' | 'end'): Promise<Map<number, bigint>>;
  close(): Promise<void>;
}

/** Together with what kafkajs tries by itself: a leader election, a broker that restarts. */
const PATIENCE_MS = 5_000;
const CLOSE_WAIT_MS = 2_000;

/** Every call is tried again for a while if the error may pass; what is thrown in the end is the error of kafkajs. */
export function createPartitionReader(kafka: KafkaClient): PartitionReader {
  const cluster = createCluster(kafka);
  let closed = false;

  const recover = async (error: unknown): Promise<void> => {
    const { name, host, port } = error as { name?: string; host?: string; port?: number };
    try {
      if (name === 'KafkaJSConnectionClosedError' && host !== undefined && port !== undefined) cluster.removeBroker({ host, port });
      if (!cluster.isConnected()) await cluster.connect();
      await cluster.refreshMetadata();
    } catch {
      // The next attempt says what is wrong.
    }
  };

  const attempt = async <T>(action: () => Promise<T>): Promise<T> => {
    const deadline = Date.now() + PATIENCE_MS;
    for (let pause = 50; ; pause = Math.min(pause * 2, 1_000)) {
      try {
        return await action();
      } catch (error) {
        if (closed || Date.now() > deadline || !classifyKafkaError(error).retriable) throw error;
        await sleep(pause);
        await recover(error);
      }
    }
  };

  const readOffsets = async (topic: string, which: 'beginning' | 'end'): Promise<Map<number, bigint>> => {
    await cluster.refreshMetadataIfNecessary();
    const partitions = cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => ({ partition: partitionId }));
    const [answer] = await cluster.fetchTopicsOffset([{ topic, partitions, fromBeginning: which === 'beginning' }]);
    return new Map((answer?.partitions ?? []).map(({ partition, offset }) => [partition, BigInt(offset)]));
  };

  const fetchOnce = async (topic: string, partition: number, from: bigint, options: ReadOptions): Promise<Slice> => {
    await cluster.refreshMetadataIfNecessary();
    const [nodeId] = Object.keys(cluster.findLeaderForPartitions(topic, [partition]));
    const broker = await cluster.findBroker({ nodeId: nodeId! });
    const { responses } = await broker.fetch({
      maxWaitTime: options.maxWaitMs,
      minBytes: 1,
      maxBytes: options.maxBytes,
      isolationLevel: READ_COMMITTED,
      topics: [{ topic, partitions: [{ partition, fetchOffset: from.toString(), maxBytes: options.maxBytes }] }],
    });
    const data = responses[0]?.partitions[0];
    if (!data) return { messages: [], next: from };
    const batch = new KafkaBatch(topic, from.toString(), data);
    const seen = batch.rawMessages.at(-1);
    const next = seen ? BigInt(seen.offset) + 1n : from;
    return { messages: batch.messages, next: next > from ? next : from };
  };

  return {
    async connect(topics) {
      try {
        await cluster.connect();
        await attempt(async () => {
          for (const topic of topics) await cluster.addTargetTopic(topic);
        });
      } catch (error) {
        await cluster.disconnect().catch(() => undefined);
        throw toDifyEsError(error, `read ${topics.join(', ')}`);
      }
    },
    partitions: (topic) => cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => partitionId),
    async read(topic, partition, from, options) {
      try {
        return { ...(await attempt(() => fetchOnce(topic, partition, from, options))), restarted: false };
      } catch (error) {
        if (classifyKafkaError(error).reason !== 'OFFSET_OUT_OF_RANGE') throw error;
        const beginning = (await attempt(() => readOffsets(topic, 'beginning'))).get(partition) ?? 0n;
        return { messages: [], next: beginning, restarted: true };
      }
    },
    offsets: (topic, which) => attempt(() => readOffsets(topic, which)),
    async close() {
      closed = true;
      await withinMs(CLOSE_WAIT_MS, cluster.disconnect());
    },
  };
}

/**
 * All records of a partition from an offset up to another, in slices of bounded size. Ends at `to`, or earlier where an
 * open transaction holds the reader back for longer than `patienceMs`: then it throws KAFKA_UNREACHABLE.
 */
export async function* readRange(reader: PartitionReader, topic: string, partition: number, from: bigint, to: bigint, patienceMs = 30_000): AsyncGenerator<readonly DecodedMessage[]> {
  let position = from;
  let movedAt = Date.now();
  while (position < to) {
    const { messages, next, restarted } = await reader.read(topic, partition, position, { maxWaitMs: 100, maxBytes: 4 * 1024 * 1024 });
    if (next > position || restarted) movedAt = Date.now();
    else if (Date.now() - movedAt > patienceMs) throw new DifyEsError('KAFKA_UNREACHABLE', `Kafka: an open transaction holds back ${topic}`);
    position = next;
    const wanted = messages.filter(({ offset }) => BigInt(offset) < to);
    if (wanted.length > 0) yield wanted;
  }
}
