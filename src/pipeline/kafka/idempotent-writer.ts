import { toDifyEsError } from './kafka-errors.ts';
import { CompressionTypes, type KafkaClient, type Producer } from './kafkajs.ts';

/** A record for a topic of one partition. */
export interface PlainRecord {
  readonly key: string | null;
  readonly value: string | Buffer | null;
  readonly headers?: Record<string, string>;
}

/** Writes outside of transactions: state and dead letters. Connects at the first record. */
export interface IdempotentWriter {
  /** The offset the brokers gave it; on return it is acknowledged (acks=all). Throws a DifyEsError. */
  send(record: PlainRecord): Promise<bigint>;
  sendAll(records: readonly PlainRecord[]): Promise<bigint>;
  close(): Promise<void>;
}

/** How producers are retried: fast at first, since a transaction that has just ended is refused for a few ms. */
export const PRODUCER_RETRY = { initialRetryTime: 5, multiplier: 2, maxRetryTime: 1_000, retries: 13 } as const;

/**
 * After a failed send the producer is thrown away: kafkajs counts its sequence numbers back, and a record that had
 * reached the broker all the same would make it take the next one for a repetition and drop it without a word.
 */
export function createIdempotentWriter(kafka: KafkaClient, topic: string): IdempotentWriter {
  let producer: Producer | undefined;
  let last: Promise<unknown> = Promise.resolve();

  const discard = async (): Promise<void> => {
    const old = producer;
    producer = undefined;
    await old?.disconnect().catch(() => undefined);
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

  const sendAll = (records: readonly PlainRecord[]): Promise<bigint> => {
    const turn = last.then(() => write(records));
    last = turn.catch(() => undefined);
    return turn;
  };

  return {
    send: (record) => sendAll([record]),
    sendAll,
    async close() {
      await last;
      await discard();
    },
  };
}
