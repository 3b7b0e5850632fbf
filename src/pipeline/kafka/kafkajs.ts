import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import { createFetcher, createWorker, type GroupClass, mendConsumerGroup } from './fetch-ahead.ts';
import { type AbortedTransaction, withoutAborted } from './wire/aborted.ts';
import { type DecodedMessage, decodeBatches } from './wire/decode-batches.ts';
import { encodeBatch, type WireMessage } from './wire/encode-batch.ts';
import { frameRequest } from './wire/request-frame.ts';

/*
 * kafkajs with nine of its modules replaced or mended; see docs/decisions/0005, 0015 and 0016. Everything here takes kafkajs from this file, and
 * never by its name: a copy loaded elsewhere has the old modules.
 *
 *   requestQueue             set a timer in the past after every answer (TimeoutNegativeWarning on Node 24)
 *   filterAbortedMessages    let records of aborted transactions through, see wire/aborted.ts
 *   fetch/v4/decodeMessages  unpacked without a bound and stood still before an emptied batch, see wire/decode-batches.ts
 *   groupMessagesPerPartition  copied a partition's messages anew for each one of them
 *   produce/v3/request       three quarters of the CPU of a produced record, see wire/encode-batch.ts
 *   protocol/request         copied each request twice into cleared buffers, see wire/request-frame.ts
 *   consumer/fetcher, consumer/consumerGroup  nothing was fetched while a batch was at work, see fetch-ahead.ts
 *   consumer/worker          of the batches of one answer one was handled after the other, see fetch-ahead.ts
 *
 * kafkajs 2.2.4 is its last release, so these modules do not move; a test loads each and fails when one is missing.
 */

type KafkaJs = typeof import('kafkajs');
type Module = 'network/requestQueue' | 'consumer/filterAbortedMessages' | 'consumer/fetcher' | 'consumer/worker' | 'producer/groupMessagesPerPartition' | 'protocol/request' | 'protocol/requests/fetch/v4/decodeMessages' | 'protocol/requests/produce/v3/request';

/** Unpacked bytes taken from one partition of one answer, before the rest is left for the next fetch. */
const UNPACK_BUDGET = 4 * 1024 * 1024;

const require = createRequire(import.meta.url);
const root = dirname(require.resolve('kafkajs/package.json'));
const src = (module: string): string => join(root, 'src', ...module.split('/'));

interface Decoder {
  readInt32(): number;
  canReadBytes(length: number): boolean;
  readBytes(length: number): Buffer;
}

interface Encoder {
  writeString(value: string | null): Encoder;
  writeInt16(value: number): Encoder;
  writeInt32(value: number): Encoder;
  readonly buffer: Buffer;
}

interface ProduceArguments {
  readonly acks: number;
  readonly timeout?: number;
  readonly transactionalId?: string | null;
  readonly producerId?: { toString(): string } | number;
  readonly producerEpoch?: number;
  readonly compression?: number;
  readonly topicData: readonly { topic: string; partitions: readonly { partition: number; firstSequence?: number; messages: readonly WireMessage[] }[] }[];
}

function replace(module: Module, exports: unknown): void {
  const path = require.resolve(src(module));
  require(path);
  require.cache[path]!.exports = exports;
}

/**
 * Throws out what was loaded before and loads it again around the replaced modules, so that the order of imports does
 * not matter. The copy stays in the cache: kafkajs requires its request modules at their first use.
 */
function load(): { kafkajs: KafkaJs; Batch: BatchConstructor } {
  for (const path of Object.keys(require.cache)) if (path.startsWith(root + sep)) delete require.cache[path];
  mendRequestQueue(require(src('network/requestQueue')) as RequestQueueClass);
  replace('consumer/filterAbortedMessages', filterAbortedMessages);
  replace('producer/groupMessagesPerPartition', groupMessagesPerPartition);
  replace('protocol/request', frameRequest);
  replace('protocol/requests/fetch/v4/decodeMessages', decodeMessages);
  replace('protocol/requests/produce/v3/request', produceRequest(require(src('protocol/encoder')) as new () => Encoder, (require(src('protocol/requests/apiKeys')) as { Produce: number }).Produce));
  replace('consumer/fetcher', createFetcher);
  replace('consumer/worker', createWorker);
  mendConsumerGroup(require(src('consumer/consumerGroup')) as GroupClass);
  return { kafkajs: require(root) as KafkaJs, Batch: require(src('consumer/batch')) as BatchConstructor };
}

/** kafkajs' own Batch: the messages of one partition of one answer, those of aborted transactions left out. */
export interface Batch {
  readonly topic: string;
  readonly partition: number;
  readonly highWatermark: string;
  readonly messages: readonly DecodedMessage[];
  readonly rawMessages: readonly DecodedMessage[];
  lastOffset(): string;
}
export type BatchConstructor = new (topic: string, fetchedOffset: string, partitionData: unknown) => Batch;

interface RequestQueueClass {
  prototype: { pending: unknown[]; throttledUntil: number; throttleCheckTimeoutId: unknown; checkPendingRequests(): void; scheduleCheckPendingRequests(): void };
}

/** The original sets its timer even with nothing pending, at `throttledUntil - now`, which is 1970 for most. */
function mendRequestQueue(RequestQueue: RequestQueueClass): void {
  RequestQueue.prototype.scheduleCheckPendingRequests = function (): void {
    if (this.throttleCheckTimeoutId || this.pending.length === 0) return;
    const wait = this.throttledUntil - Date.now();
    this.throttleCheckTimeoutId = setTimeout(
      () => {
        this.throttleCheckTimeoutId = null;
        this.checkPendingRequests();
      },
      wait > 0 ? wait : 10,
    );
  };
}

function filterAbortedMessages(input: { messages: DecodedMessage[]; abortedTransactions: AbortedTransaction[] | null }): readonly DecodedMessage[] {
  return withoutAborted(input.messages, input.abortedTransactions);
}

interface Grouping {
  readonly topic: string;
  readonly partitionMetadata: unknown;
  readonly messages: readonly WireMessage[];
  readonly partitioner: (choice: { topic: string; partitionMetadata: unknown; message: WireMessage }) => number;
}

function groupMessagesPerPartition({ topic, partitionMetadata, messages, partitioner }: Grouping): Record<number, WireMessage[]> {
  const groups: Record<number, WireMessage[]> = {};
  for (const message of messages) (groups[partitioner({ topic, partitionMetadata, message })] ??= []).push(message);
  return groups;
}

async function decodeMessages(decoder: Decoder): Promise<DecodedMessage[]> {
  const size = decoder.readInt32();
  if (size <= 0 || !decoder.canReadBytes(size)) return [];
  return decodeBatches(decoder.readBytes(size), UNPACK_BUDGET);
}

/** The request of Produce v3 to v7, which differ only in their number. */
function produceRequest(EncoderClass: new () => Encoder, apiKey: number) {
  return ({ acks, timeout = 30_000, transactionalId = null, producerId = -1, producerEpoch = 0, compression = 0, topicData }: ProduceArguments) => ({
    apiKey,
    apiVersion: 3,
    apiName: 'Produce',
    expectResponse: () => acks !== 0,
    encode: async (): Promise<{ pieces: Buffer[] }> => {
      const options = { compression, transactional: transactionalId !== null, producerId: BigInt(producerId.toString()), producerEpoch, timestampMs: Date.now() };
      const topics = topicData.map(async ({ topic, partitions }) => {
        const batches = await Promise.all(partitions.map(({ firstSequence = 0, messages }) => encodeBatch(messages, { ...options, firstSequence })));
        const head = new EncoderClass().writeString(topic).writeInt32(partitions.length).buffer;
        return [head, ...partitions.flatMap(({ partition }, index) => [new EncoderClass().writeInt32(partition).writeInt32(batches[index]!.length).buffer, batches[index]!])];
      });
      const head = new EncoderClass().writeString(transactionalId).writeInt16(acks).writeInt32(timeout).writeInt32(topics.length).buffer;
      const pieces = [head, ...(await Promise.all(topics)).flat()];
      // kafkajs writes to the socket in the microtasks that follow; this comes after them.
      if (writtenListeners.size > 0) setImmediate(() => writtenListeners.forEach((listener) => listener()));
      return { pieces };
    },
  });
}

const writtenListeners = new Set<() => void>();

/** Called when a produce request has gone out and before its answer; returns the function that ends it. For tests that kill there. */
export function onProduceWritten(listener: () => void): () => void {
  writtenListeners.add(listener);
  return () => void writtenListeners.delete(listener);
}

const loaded = load();
export const { Kafka, logLevel, CompressionTypes, ConfigResourceTypes } = loaded.kafkajs;
export const KafkaBatch = loaded.Batch;
export type { Admin, Consumer, ConsumerRunConfig, EachBatchPayload, Kafka as KafkaClient, KafkaConfig, logCreator, Producer, SASLOptions, TopicMessages, Transaction } from 'kafkajs';
