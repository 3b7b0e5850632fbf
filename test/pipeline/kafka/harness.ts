import { randomUUID } from 'node:crypto';
import pino from 'pino';
import type { ConsumedRecord, Publisher, RowRecord, RowShape, TableName } from '../../../src/core/contracts.ts';
import { parseLsn } from '../../../src/core/lsn.ts';
import { versionOfCommit } from '../../../src/core/row-version.ts';
import type { ControlLog } from '../../../src/core/state.ts';
import { createAvroEncoding } from '../../../src/pipeline/encode/avro-encoding.ts';
import { createKafka } from '../../../src/pipeline/kafka/client.ts';
import { type ConsumerOptions, createRecordConsumer, type Delivery, type RecordConsumer } from '../../../src/pipeline/kafka/consumer.ts';
import { openControlLog } from '../../../src/pipeline/kafka/control-log.ts';
import { parseHeaders } from '../../../src/pipeline/encode/headers.ts';
import type { KafkaClient } from '../../../src/pipeline/kafka/kafkajs.ts';
import { createPartitionReader, readRange } from '../../../src/pipeline/kafka/partition-reader.ts';
import { createPublisher, type PublisherOptions } from '../../../src/pipeline/kafka/publisher.ts';
import { ensureTopics, pinLayout, type TopicNames, topicNames } from '../../../src/pipeline/kafka/topics.ts';
import type { DecodedMessage } from '../../../src/pipeline/kafka/wire/decode-batches.ts';
import { cellsOf } from '../../support/cells.ts';

export const PARTITIONS = 3;
export const RUNS: TableName = 'workflow_runs';
const TENANT = '11111111-1111-4111-8111-111111111111';
export const silent = pino({ level: 'silent' });

const SHAPE: RowShape = { table: RUNS, columns: ['id', 'tenant_id', 'created_at', 'inputs'] };

/** One row; `text` stands in its last column. */
export function row(id: string, text: string | Buffer, lsn = '0/100', shape = SHAPE): RowRecord {
  const key = { tenantId: TENANT, createdAt: '2025-10-10 08:25:41.1234', id };
  const cells = [Buffer.from(id), Buffer.from(TENANT), Buffer.from(key.createdAt), Buffer.from(text)];
  while (cells.length < shape.columns.length) cells.push(Buffer.from('more'));
  return { table: RUNS, key, version: versionOfCommit(1, parseLsn(lsn)), op: 'insert', lsn: parseLsn(lsn), timeMs: 1_760_000_000_000, row: { shape, cells: cellsOf(cells) } };
}

/** Everything a test needs on one Kafka; all of it is closed when the test (or the file, where it is made there) ends. */
export class Bench {
  readonly kafka: KafkaClient;
  readonly names: TopicNames;
  readonly brokers: readonly string[];
  readonly prefix: string;
  readonly #closers: (() => Promise<unknown>)[] = [];

  constructor(brokers: readonly string[], prefix: string) {
    this.kafka = createKafka({ brokers, clientId: 'test' }, silent);
    this.brokers = brokers;
    this.prefix = prefix;
    this.names = topicNames(prefix);
  }

  async setup(): Promise<void> {
    await ensureTopics(this.kafka, this.names, { partitions: PARTITIONS, replicationFactor: 1 });
    const control = await this.control();
    await pinLayout(this.kafka, this.names, control);
  }

  later(close: () => Promise<unknown>): void {
    this.#closers.push(close);
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close().catch(() => undefined);
  }

  async control(): Promise<ControlLog> {
    const control = await openControlLog({ kafka: this.kafka, topic: this.names.control, logger: silent });
    this.later(() => control.close());
    return control;
  }

  async publisher(options: Partial<PublisherOptions> = {}): Promise<Publisher> {
    const control = options.control ?? (await this.control());
    const publisher = createPublisher({
      kafka: this.kafka, names: this.names, role: 'stream', transactionalId: `${this.prefix}-${randomUUID()}`, control, encoding: createAvroEncoding(), partitions: PARTITIONS, logger: silent, ...options,
    });
    this.later(() => publisher.close());
    return publisher;
  }

  /** What a read_committed reader sees of a topic now, partition by partition. */
  async messages(topic: string): Promise<DecodedMessage[]> {
    const reader = createPartitionReader(this.kafka);
    await reader.connect([topic]);
    try {
      const [from, to] = await Promise.all([reader.offsets(topic, 'beginning'), reader.offsets(topic, 'end')]);
      const all: DecodedMessage[] = [];
      for (const partition of reader.partitions(topic)) for await (const slice of readRange(reader, topic, partition, from.get(partition)!, to.get(partition)!)) all.push(...slice);
      return all;
    } finally {
      await reader.close();
    }
  }

  consumer(groupId: string, options: Partial<ConsumerOptions> = {}): RecordConsumer {
    const consumer = createRecordConsumer({ kafka: this.kafka, names: this.names, groupId, parseHeaders, logger: silent, tables: [RUNS], sessionTimeoutMs: 6_000, ...options });
    this.later(() => consumer.stop());
    return consumer;
  }
}

/** A list that can be awaited: `until(predicate)` resolves with the items as soon as they fulfil it. */
export class Seen<T> {
  readonly items: T[] = [];
  #waiters: (() => void)[] = [];

  add(...items: readonly T[]): void {
    this.items.push(...items);
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  async until(predicate: (items: readonly T[]) => boolean): Promise<readonly T[]> {
    while (!predicate(this.items)) await new Promise<void>((resolve) => this.#waiters.push(resolve));
    return this.items;
  }
}

/** A handler that collects copies of the records, whose own memory ends with it, and commits at once. */
export function collecting(consumer: RecordConsumer, seen: Seen<ConsumedRecord>, deliveries = new Seen<Delivery>()) {
  return async (delivery: Delivery): Promise<void> => {
    seen.add(...delivery.records.map((record) => ({ ...record, key: Buffer.from(record.key), value: record.value && Buffer.from(record.value) })));
    await consumer.commit(delivery.table, delivery.partition, delivery.nextOffset);
    deliveries.add(delivery);
  };
}

export async function publish(publisher: Publisher, ...records: readonly RowRecord[]): Promise<void> {
  const transaction = await publisher.begin();
  await transaction.send(records);
  await transaction.commit();
}
