import { type PartitionReader, readRange } from './partition-reader.ts';
import type { DecodedMessage } from './wire/decode-batches.ts';

export interface SearchRange {
  readonly topic: string;
  readonly partition: number;
  readonly from: bigint;
  /** Exclusive. */
  readonly to: bigint;
}

/**
 * The records of a part of a partition whose key is wanted, in the order of the log. Kafka has no index by key, so all
 * of the part is read; in memory is one slice. `onPosition`: behind the last record looked at.
 */
export async function* findRecords(reader: PartitionReader, { topic, partition, from, to }: SearchRange, isWanted: (key: Buffer) => boolean, onPosition: (position: bigint) => void = () => {}): AsyncGenerator<DecodedMessage> {
  for await (const messages of readRange(reader, topic, partition, from, to)) {
    for (const message of messages) if (message.key !== null && isWanted(message.key)) yield message;
    onPosition(BigInt(messages.at(-1)!.offset) + 1n);
  }
}
