import { toDifyEsError } from './kafka-errors.ts';
import { withinMs } from './patience.ts';
import { CompressionTypes, type KafkaClient, type Producer } from './kafkajs.ts';

/** A record for a topic of one partition. */
export interface PlainRecord {
  readonly key: string | null;
  readonly value: string | Buffer | null;
  readonly headers?: Record<string, string>;
}

/** Writes outside of transactions: state and dead letters. Connects at the first record. */
export interface IdempotentWriter {
  /** The offset the brokers gave the record; on return it is acknowledged (acks=all). Throws a DifyEsError. */
  send(record: PlainRecord): Promise<bigint>;
  close(): Promise<void>;
}

interface Waiting {
  readonly record: PlainRecord;
  readonly acknowledged: PromiseWithResolvers<bigint>;
}

const CLOSE_WAIT_MS = 2_000;
/** Bytes of one batch; a single record may have more. */
const BATCH_BYTES = 1 << 20;

/** How producers are retried: fast at first, since a transaction that has just ended is refused for a few ms. */
export const PRODUCER_RETRY = { initialRetryTime: 5, multiplier: 2, maxRetryTime: 1_000, retries: 13 } as const;

/**
 * After a failed send the producer is thrown away: kafkajs counts its sequence numbers back, and a record that had
 * reached the broker all the same would make it take the next one for a repetition and drop it without a word.
 */
export function createIdempotentWriter(kafka: KafkaClient, topic: string): IdempotentWriter {
  let producer: Producer | undefined;
  let sending: Promise<void> | undefined;
  let waiting: Waiting[] = [];

  const discard = async (): Promise<void> => {
    const old = producer;
    producer = undefined;
    if (old) await withinMs(CLOSE_WAIT_MS, old.disconnect());
  };

  const write = async (records: readonly PlainRecord[]): Promise<bigint> => {
    try {
      if (!producer) {
        producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false, retry: PRODUCER_RETRY, createPartitioner: () => () => 0 });
        await producer.connect();
      }
      const [answer] = await producer.send({ topic, acks: -1, compression: CompressionTypes.ZSTD, messages: [...records] });
      return BigInt(answer?.baseOffset ?? -1);
    } catch (error) {
      void discard();
      throw toDifyEsError(error, `write to ${topic}`);
    }
  };

  /** What was asked for while a batch was under way goes together in the next one, in the order of the calls. */
  const drain = async (): Promise<void> => {
    while (waiting.length > 0) {
      const batch = takeBatch(waiting);
      waiting = waiting.slice(batch.length);
      try {
        const base = await write(batch.map(({ record }) => record));
        batch.forEach(({ acknowledged }, index) => acknowledged.resolve(base + BigInt(index)));
      } catch (error) {
        for (const { acknowledged } of batch) acknowledged.reject(error);
      }
    }
    sending = undefined;
  };

  return {
    send(record) {
      const acknowledged = Promise.withResolvers<bigint>();
      waiting.push({ record, acknowledged });
      sending ??= Promise.resolve().then(drain);
      return acknowledged.promise;
    },
    async close() {
      await sending;
      await discard();
    },
  };
}

function takeBatch(waiting: readonly Waiting[]): readonly Waiting[] {
  let bytes = 0;
  const end = waiting.findIndex(({ record: { value } }, index) => {
    bytes += (value?.length ?? 0) + 1000;
    return index > 0 && bytes > BATCH_BYTES;
  });
  return end < 0 ? waiting : waiting.slice(0, end);
}
