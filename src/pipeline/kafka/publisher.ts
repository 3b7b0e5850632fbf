import type { Logger } from 'pino';
import type { DeadLetter, Publisher, PublishTransaction, RowRecord } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { partitionOf } from '../../core/row-key.ts';
import { type ControlLog, stateKeys } from '../../core/state.ts';
import type { RecordEncoding } from './encoding.ts';
import { isTooLarge, toDifyEsError } from './kafka-errors.ts';
import { type KafkaClient, onProduceWritten, type TopicMessages, type Transaction } from './kafkajs.ts';
import { letterRecord } from './letter-format.ts';
import { type PlannedRecord, planRequests, type Request, type RequestLimits } from './request-plan.ts';
import { recordLimit, type TopicNames } from './topics.ts';
import { CODEC, type Compression } from './wire/batch-format.ts';
import { createWriterRole } from './writer-role.ts';

export interface PublisherOptions {
  readonly kafka: KafkaClient;
  readonly names: TopicNames;
  readonly role: 'stream' | 'backfill';
  /** One for each writer that may run at the same time; a second process with the same one fences the first. */
  readonly transactionalId: string;
  readonly control: ControlLog;
  readonly encoding: RecordEncoding;
  /** As pinned (`pinLayout`). */
  readonly partitions: number;
  readonly logger: Logger;
  /** zstd costs less CPU than it saves, here, on the brokers and in the sinks. */
  readonly compression?: Compression;
  readonly transactionTimeoutMs?: number;
  /** See WriterRoleOptions; without it `data-lost`. */
  readonly whenNameless?: 'data-lost' | 'fenced';
}

/**
 * Every partition's share of a request is one batch. 1 MiB unpacked is some 200 rows, enough to pack well, and little
 * enough for a consumer that must take whole batches.
 */
const LIMITS: RequestLimits = { batchBytes: 1 << 20, requestBytes: 8 << 20 };

/** Bytes around a record in a batch: the batch's header, lengths, and what the codec may add to bytes that do not pack. */
export const OVERHEAD = 256 * 1024;

export function createPublisher(options: PublisherOptions): Publisher {
  const { names, control, encoding, role, logger } = options;
  const compression = CODEC[options.compression ?? 'zstd'];
  const writer = createWriterRole({
    kafka: options.kafka, control, controlTopic: names.control, transactionalId: options.transactionalId,
    transactionTimeoutMs: options.transactionTimeoutMs ?? 10_000, whenNameless: options.whenNameless ?? 'data-lost', logger,
  });
  let maxRecordBytes: number | undefined;

  /** Acknowledged before the first record that uses it, and outside of the transaction: other writers may use it too. */
  const announceSchemas = async (records: readonly RowRecord[]): Promise<void> => {
    const shapes = new Set(records.flatMap(({ row }) => (row ? [row.shape] : [])));
    for (const shape of shapes) {
      const { hex, record } = encoding.schema(shape);
      const key = stateKeys.schema(hex);
      if (control.get(key) === undefined) await control.put(key, record);
    }
  };

  const plan = (record: RowRecord): PlannedRecord => {
    const key = encoding.key(record.key);
    const value = record.row === null ? null : encoding.value(record.row);
    const message = { key, value, headers: encoding.headers(record), partition: partitionOf(record.key.id, options.partitions) };
    return { topic: names.table[record.table], message, bytes: key.length + (value?.length ?? 0) + 100 };
  };

  const parked = (letter: DeadLetter): PlannedRecord => {
    const { key, value, headers } = letterRecord(letter, new Date());
    return { topic: names.dlq, message: { key, value, ...(headers ? { headers } : {}), partition: 0 }, bytes: (value?.length ?? 0) + 1000 };
  };

  const tooLarge = (record: RowRecord, bytes: number): DeadLetter => ({
    cause: 'row-too-large',
    detail: `the row takes ${bytes} bytes, Kafka takes ${maxRecordBytes}`,
    table: record.table, key: record.key, version: record.version, origin: { stage: role, lsn: encoding.headers(record)['lsn'] ?? '' }, value: null,
  });

  /** kafkajs hands the messages on as they are, to our own encoder: it need not know of values that write themselves. */
  const send = (transaction: Transaction, request: readonly Request[]): Promise<unknown> =>
    transaction.sendBatch({ acks: -1, compression, topicMessages: request as unknown as TopicMessages[] });

  /** Read from the topics before the first record, and again when a broker refused one as too large. */
  const largest = async (): Promise<number> => (maxRecordBytes ??= await recordLimit(options.kafka, names)) - OVERHEAD;

  const produce = async (transaction: Transaction, records: readonly PlannedRecord[]): Promise<void> => {
    const limits = { ...LIMITS, batchBytes: Math.min(LIMITS.batchBytes, await largest()) };
    const stop = onProduceWritten(() => crashPoint(`${role}.produce-sent`));
    try {
      for (const request of planRequests(records, limits)) await send(transaction, request);
    } finally {
      stop();
    }
    crashPoint(`${role}.produce-acknowledged`);
  };

  const open = (transaction: Transaction): PublishTransaction => {
    const controls: PlannedRecord[] = [];
    let last: Promise<unknown> = Promise.resolve();
    let failed = false;

    /** One after the other, whoever does not wait, so that the order of the calls is the order of the log. */
    const inTurn = (doing: string, action: () => Promise<void>): Promise<void> => {
      const turn = last.then(async () => {
        if (failed) throw new DifyEsError('KAFKA_UNREACHABLE', `Kafka: could not ${doing}, since the transaction has failed before`);
        try {
          await action();
        } catch (error) {
          failed = true;
          if (isTooLarge(error)) maxRecordBytes = undefined;
          throw await writer.failed(error, doing);
        }
      });
      last = turn.catch(() => undefined);
      return turn;
    };

    return {
      send: (records) =>
        inTurn('publish rows', async () => {
          await announceSchemas(records);
          const limit = await largest();
          const planned = records.map((record) => {
            const row = plan(record);
            return row.bytes <= limit ? row : parked(tooLarge(record, row.bytes));
          });
          await produce(transaction, planned);
        }),
      park: (letters) => inTurn('park dead letters', () => produce(transaction, letters.map(parked))),
      putControl: (key, value) =>
        inTurn('record progress', async () => {
          // Sent with the commit: an open transaction on the control topic holds back everybody who reads it.
          controls.push({ topic: names.control, message: { key, value: JSON.stringify(value), partition: 0 }, bytes: 0 });
        }),
      commit: () =>
        inTurn('commit the transaction', async () => {
          if (controls.length > 0) for (const request of planRequests(controls, LIMITS)) await send(transaction, request);
          await transaction.commit();
          writer.ended();
          crashPoint(`${role}.transaction-committed`);
        }),
      async abort() {
        await last;
        failed = true;
        await writer.abort(transaction);
      },
    };
  };

  return {
    async begin() {
      try {
        return open(await writer.begin());
      } catch (error) {
        throw toDifyEsError(error, 'begin a transaction');
      }
    },
    close: () => writer.close(),
  };
}
