import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type ConsumedRecord, TABLES, type TableName } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { CommitQueue } from './commit-queue.ts';
import type { RecordEncoding } from './encoding.ts';
import { classifyKafkaError, toDifyEsError } from './kafka-errors.ts';
import type { Consumer, EachBatchPayload, KafkaClient } from './kafkajs.ts';
import { withinMs } from './patience.ts';
import type { TopicNames } from './topics.ts';

export interface ConsumerOptions {
  readonly kafka: KafkaClient;
  readonly names: TopicNames;
  readonly groupId: string;
  readonly parseHeaders: RecordEncoding['parseHeaders'];
  readonly logger: Logger;
  readonly tables?: readonly TableName[];
  /** How long the group keeps a dead member's partitions. */
  readonly sessionTimeoutMs?: number;
  /** Packed bytes of one answer. What a partition unpacks to is bounded by itself (wire/decode-batches.ts). */
  readonly maxBytes?: number;
  readonly maxBytesPerPartition?: number;
}

/** Records of one partition in the order of the log. */
export interface Delivery {
  readonly table: TableName;
  readonly partition: number;
  /**
   * Empty where there were only markers of transactions: there is nothing to do but to let the position move. Their
   * bytes are the handler's until it returns; then the memory is given back, and a view of it is empty without an error.
   */
  readonly records: readonly ConsumedRecord[];
  /** To be committed once every record up to here is settled: behind the markers and aborted records that follow. */
  readonly nextOffset: string;
}

export interface DeliveryControl {
  /** False when the consumer is being stopped: return soon, unsettled records come again. */
  isRunning(): boolean;
  /** True when the partition may belong to another member by now: return soon and commit nothing. */
  isStale(): boolean;
}

/**
 * Called for one delivery of a partition at a time; several partitions may be handled at once. When it returns, the
 * next records of the partition are fetched; when it throws, the same ones come again. The group's membership is kept
 * alive meanwhile, however long it takes.
 */
export type DeliveryHandler = (delivery: Delivery, control: DeliveryControl) => Promise<void>;

export interface Assignment {
  readonly table: TableName;
  readonly partitions: readonly number[];
}

export interface RecordConsumer {
  /** Joins the group; returns when it has. Throws KAFKA_TOPIC_MISSING, KAFKA_UNREACHABLE, KAFKA_AUTH. */
  start(handler: DeliveryHandler, onAssignment?: (assignment: readonly Assignment[]) => void): Promise<void>;
  /**
   * Commits a position; the caller answers for every record below it. Throws KAFKA_UNREACHABLE when the group has moved
   * on meanwhile: the records then come again, here or elsewhere.
   */
  commit(table: TableName, partition: number, nextOffset: string): Promise<void>;
  /** Rejects when the consumer cannot go on (rights, a missing topic); otherwise troubles are waited out and logged. */
  readonly failed: Promise<never>;
  /** Leaves the group, so that others take over at once. Within 10 s, whatever the brokers do. */
  stop(): Promise<void>;
}

/** How long a broker holds a fetch that finds nothing: no latency, since it answers as soon as there is something. */
const MAX_WAIT_MS = 300;
/** More than a member has partitions: one that waited for a worker through a rebalance would count as of the new generation. */
const MOST_AT_ONCE = 256;
const STOP_WAIT_MS = 5_000;
const LONGEST_PAUSE_MS = 15_000;
const START_PATIENCE_MS = 20_000;
/** A broker that answers but is not ready for the group; kafkajs gives up its first join at these. */
const BUSY: ReadonlySet<string> = new Set(['GROUP_LOAD_IN_PROGRESS', 'GROUP_COORDINATOR_NOT_AVAILABLE', 'NOT_COORDINATOR_FOR_GROUP', 'LEADER_NOT_AVAILABLE', 'NOT_LEADER_FOR_PARTITION', 'UNKNOWN_MEMBER_ID', 'REBALANCE_IN_PROGRESS']);
/** Errors of a handler that pass by themselves; any other with a code ends the consumer. */
const WAITED_OUT: ReadonlySet<string> = new Set(['KAFKA_UNREACHABLE', 'ES_UNREACHABLE']);

export function createRecordConsumer(options: ConsumerOptions): RecordConsumer {
  const { kafka, names, logger, parseHeaders } = options;
  const tables = options.tables ?? TABLES;
  const tableOf = new Map(tables.map((table) => [names.table[table], table]));
  const sessionTimeout = options.sessionTimeoutMs ?? 30_000;
  const heartbeatInterval = Math.max(500, Math.floor(sessionTimeout / 4));
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => undefined);
  const markers = new Map<string, Promise<void>>();
  let consumer: Consumer | undefined;
  let stopping = false;
  let generation = 0;
  let pauseMs = 500;

  const create = (): Consumer =>
    kafka.consumer({
      groupId: options.groupId, sessionTimeout, heartbeatInterval, rebalanceTimeout: Math.max(sessionTimeout, 30_000), allowAutoTopicCreation: false,
      minBytes: 1, maxWaitTimeInMs: MAX_WAIT_MS, maxBytes: options.maxBytes ?? 2 << 20, maxBytesPerPartition: options.maxBytesPerPartition ?? 1 << 20,
      readUncommitted: false, retry: { initialRetryTime: 100, retries: 8, maxRetryTime: 3_000, restartOnFailure: async () => false },
    });

  const controlOf = (startedIn: number): DeliveryControl => ({ isRunning: () => !stopping, isStale: () => stopping || generation !== startedIn });

  /** Records of one transaction come with the same headers, also as an object (see decode-batches.ts). */
  let lastHeaders: Parameters<typeof parseHeaders>[0];
  let lastParsed: ConsumedRecord['headers'] = parseHeaders(undefined);
  const headersOf = (headers: Parameters<typeof parseHeaders>[0]): ConsumedRecord['headers'] => {
    if (headers !== lastHeaders) lastParsed = parseHeaders(headers);
    lastHeaders = headers;
    return lastParsed;
  };

  const handleBatch = async (handler: DeliveryHandler, { batch, heartbeat, resolveOffset }: EachBatchPayload): Promise<void> => {
    const table = tableOf.get(batch.topic)!;
    const { partition } = batch;
    // Before any waiting: a fetch may join the group anew meanwhile, and the partition may be another member's then.
    const started = generation;
    await markers.get(`${table}/${partition}`);
    const beat = setInterval(() => void heartbeat().catch(() => (generation += 1)), heartbeatInterval);
    try {
      const records = batch.messages.map((message): ConsumedRecord => ({ table, partition, offset: message.offset, key: message.key ?? Buffer.alloc(0), value: message.value, headers: headersOf(message.headers) }));
      const lastOffset = batch.lastOffset();
      await handler({ table, partition, records, nextOffset: (BigInt(lastOffset) + 1n).toString() }, controlOf(started));
      if (!stopping && generation === started) resolveOffset(lastOffset);
    } catch (error) {
      if (error instanceof DifyEsError && !WAITED_OUT.has(error.code)) failure.reject(error);
      throw error;
    } finally {
      clearInterval(beat);
    }
  };

  /** kafkajs passes over batches of markers by itself; the group's position must follow, or it never looks drained. */
  const handleMarkers = (handler: DeliveryHandler, topic: string, partition: number, lastOffset: string): void => {
    const table = tableOf.get(topic);
    if (!table) return;
    const key = `${table}/${partition}`;
    const started = generation;
    const turn = (markers.get(key) ?? Promise.resolve())
      .then(() => handler({ table, partition, records: [], nextOffset: (BigInt(lastOffset) + 1n).toString() }, controlOf(started)))
      .catch((error: unknown) => logger.debug({ table, partition, error: toDifyEsError(error, 'move the position').message }, 'position behind markers not taken'))
      .finally(() => {
        if (markers.get(key) === turn) markers.delete(key);
      });
    markers.set(key, turn);
  };

  const run = async (handler: DeliveryHandler, onAssignment: (assignment: readonly Assignment[]) => void): Promise<void> => {
    const current = create();
    consumer = current;
    const joined = Promise.withResolvers<void>();
    joined.promise.catch(() => undefined);
    let hasJoined = false;
    current.on(current.events.GROUP_JOIN, ({ payload }) => {
      generation += 1;
      pauseMs = 500;
      const assignment = Object.entries(payload.memberAssignment).flatMap(([topic, partitions]) => (tableOf.has(topic) ? [{ table: tableOf.get(topic)!, partitions }] : []));
      logger.info({ group: options.groupId, partitions: assignment.map(({ table, partitions }) => `${table}: ${partitions.join(' ')}`) }, 'joined the consumer group');
      onAssignment(assignment);
      hasJoined = true;
      joined.resolve();
    });
    current.on(current.events.REBALANCING, () => void (generation += 1));
    current.on(current.events.START_BATCH_PROCESS, ({ payload }) => {
      if (payload.batchSize === 0) handleMarkers(handler, payload.topic, payload.partition, payload.lastOffset);
    });
    current.on(current.events.CRASH, ({ payload }) => {
      generation += 1;
      joined.reject(payload.error);
      if (hasJoined && consumer === current && !stopping) void restart(handler, onAssignment, payload.error);
    });
    await current.connect();
    await current.subscribe({ topics: [...tableOf.keys()], fromBeginning: true });
    await current.run({ autoCommit: false, eachBatchAutoResolve: false, partitionsConsumedConcurrently: MOST_AT_ONCE, eachBatch: (payload) => handleBatch(handler, payload) });
    await joined.promise;
  };

  const restart = async (handler: DeliveryHandler, onAssignment: (assignment: readonly Assignment[]) => void, cause: unknown): Promise<void> => {
    let error = cause;
    consumer = undefined;
    while (!stopping) {
      const { code, reason } = classifyKafkaError(error);
      if (code === 'KAFKA_AUTH' || code === 'KAFKA_TOPIC_MISSING') return failure.reject(toDifyEsError(error, 'consume'));
      logger.warn({ group: options.groupId, reason, pauseMs }, 'the consumer ended and is started again');
      await sleep(pauseMs, undefined, { ref: false });
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
      if (stopping) return;
      try {
        return await run(handler, onAssignment);
      } catch (again) {
        await discard();
        error = again;
      }
    }
  };

  const discard = async (): Promise<void> => {
    const old = consumer;
    consumer = undefined;
    if (old) await withinMs(STOP_WAIT_MS, old.disconnect());
  };

  const commits = new CommitQueue(async (positions) => {
    if (!consumer) throw new DifyEsError('KAFKA_UNREACHABLE', 'Kafka: the consumer is not a member of its group now');
    try {
      await consumer.commitOffsets([...positions]);
    } catch (error) {
      throw toDifyEsError(error, 'commit a position');
    }
  });

  return {
    failed: failure.promise,
    async start(handler, onAssignment = () => undefined) {
      const deadline = Date.now() + START_PATIENCE_MS;
      for (;;) {
        try {
          return await run(handler, onAssignment);
        } catch (error) {
          await discard();
          if (Date.now() < deadline && BUSY.has(classifyKafkaError(error).reason)) {
            await sleep(200);
            continue;
          }
          stopping = true;
          throw toDifyEsError(error, 'join the consumer group');
        }
      }
    },
    commit(table, partition, nextOffset) {
      const readIn = generation;
      return commits.commit({ topic: names.table[table], partition, offset: nextOffset }, () => generation === readIn);
    },
    async stop() {
      stopping = true;
      await discard();
    },
  };
}
