import type { WireMessage } from './wire/encode-batch.ts';

export interface PlannedMessage extends WireMessage {
  readonly partition: number;
}

export interface PlannedRecord {
  readonly topic: string;
  readonly message: PlannedMessage;
  /** Bytes of key, value and headers, unpacked. */
  readonly bytes: number;
}

export interface RequestLimits {
  /**
   * A partition's batch and with it what a consumer must take at once, since a fetch returns whole batches. A single
   * record may be larger and then is alone in its batch.
   */
  readonly batchBytes: number;
  /** Of all partitions together; the brokers refuse a request above socket.request.max.bytes (100 MiB). */
  readonly requestBytes: number;
}

/** What kafkajs' sendBatch takes. */
export interface Request {
  readonly topic: string;
  readonly messages: PlannedMessage[];
}

/** Splits records into requests without changing their order: the requests are sent one after the other. */
export function planRequests(records: readonly PlannedRecord[], limits: RequestLimits): Request[][] {
  const requests: Request[][] = [];
  let topics = new Map<string, PlannedMessage[]>();
  let batches = new Map<string, number>();
  let total = 0;
  const flush = (): void => {
    if (topics.size > 0) requests.push([...topics].map(([topic, messages]) => ({ topic, messages })));
    topics = new Map();
    batches = new Map();
    total = 0;
  };
  for (const { topic, message, bytes } of records) {
    const batch = `${message.partition}/${topic}`;
    const used = batches.get(batch) ?? 0;
    if ((used > 0 && used + bytes > limits.batchBytes) || (total > 0 && total + bytes > limits.requestBytes)) flush();
    batches.set(batch, (batches.get(batch) ?? 0) + bytes);
    total += bytes;
    const messages = topics.get(topic);
    if (messages) messages.push(message);
    else topics.set(topic, [message]);
  }
  flush();
  return requests;
}
