import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { DifyEsError } from '../../core/errors.ts';
import type { ControlLog } from '../../core/state.ts';
import { createControlChange } from './control-change.ts';
import { ControlView } from './control-view.ts';
import { createIdempotentWriter } from './idempotent-writer.ts';
import { toDifyEsError } from './kafka-errors.ts';
import type { KafkaClient } from './kafkajs.ts';
import { withinMs } from './patience.ts';
import { createPartitionReader, type PartitionReader } from './partition-reader.ts';
import type { DecodedMessage } from './wire/decode-batches.ts';

export interface ControlLogOptions {
  readonly kafka: KafkaClient;
  /** `topicNames(prefix).control` */
  readonly topic: string;
  readonly logger: Logger;
}

const CLOSE_WAIT_MS = 2_000;
const FOLLOW = { maxWaitMs: 250, maxBytes: 4 * 1024 * 1024 };

/**
 * Reads the control topic to its end and follows it from there. Throws KAFKA_TOPIC_MISSING before the first setup, and
 * KAFKA_UNREACHABLE when no broker answers. Later on a broker that is away only makes `refresh` and `put` wait or fail.
 */
export async function openControlLog({ kafka, topic, logger }: ControlLogOptions): Promise<ControlLog> {
  const view = new ControlView();
  const listeners = new Set<(key: string) => void>();
  const reader = createPartitionReader(kafka);
  const writer = createIdempotentWriter(kafka, topic);
  let position = 0n;
  /** Counts how often the topic was found to be another one. */
  let generation = 0;
  let closed = false;
  let moved = Promise.withResolvers<void>();

  const notify = (key: string): void => {
    for (const listener of listeners) listener(key);
  };

  const apply = (message: DecodedMessage): void => {
    const key = message.key?.toString('utf8');
    if (key === undefined) return;
    try {
      if (view.apply(key, message.value?.toString('utf8') ?? null, BigInt(message.offset))) notify(key);
    } catch {
      logger.warn({ key, offset: message.offset }, 'a record on the control topic is no JSON and was passed over');
    }
  };

  const startAnew = (at: bigint): void => {
    generation++;
    position = at;
    view.clear().forEach(notify);
  };

  const step = async (maxWaitMs: number): Promise<void> => {
    const asked = generation;
    const { messages, next, restarted } = await reader.read(topic, 0, position, { ...FOLLOW, maxWaitMs });
    if (asked !== generation) return;
    if (restarted) startAnew(next);
    position = next;
    messages.forEach(apply);
    if (messages.length > 0 || restarted) logger.debug({ topic, position: position.toString(), records: messages.length }, 'control topic read');
    moved.resolve();
    moved = Promise.withResolvers<void>();
  };

  const follow = async (): Promise<void> => {
    let pause = 100;
    while (!closed) {
      try {
        await step(FOLLOW.maxWaitMs);
        pause = 100;
      } catch (error) {
        if (closed) return;
        logger.debug({ topic, error: toDifyEsError(error, 'follow the control topic').message }, 'control topic not readable');
        await sleep(pause, undefined, { ref: false });
        pause = Math.min(pause * 2, 5_000);
      }
    }
  };

  /**
   * A topic that ends before what was read of it is another one: Kafka's data was deleted. The view of the old one must
   * not answer, and the offset at which it stopped may soon be a valid one of the new topic.
   */
  const refresh = async (): Promise<void> => {
    const read = position;
    const asked = generation;
    const end = await endOf(reader, topic);
    if (end < read && asked === generation) startAnew(0n);
    const reading = generation;
    while (position < end) {
      if (closed) throw new DifyEsError('INTERNAL', 'the control log is closed');
      await moved.promise;
      // The topic was made anew meanwhile: the end that was asked for is of the old one, and may never be reached.
      if (generation !== reading) return refresh();
    }
  };

  const write = async (key: string, value: string | null): Promise<void> => {
    const offset = await writer.send({ key, value });
    if (view.apply(key, value, offset)) notify(key);
  };

  try {
    await reader.connect([topic]);
    position = (await reader.offsets(topic, 'beginning')).get(0) ?? 0n;
    const end = await endOf(reader, topic);
    while (position < end) await step(100);
  } catch (error) {
    await reader.close();
    throw toDifyEsError(error, 'read the control topic');
  }
  const following = follow();

  return {
    get: <T>(key: string) => view.get(key) as T | undefined,
    entries: <T>(prefix: string) => view.entries(prefix) as [string, T][],
    put: (key, value) => write(key, JSON.stringify(value)),
    remove: (key) => write(key, null),
    change: createControlChange({ kafka, topic, refresh, logger }),
    onChange(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    refresh,
    async close() {
      if (closed) return;
      closed = true;
      moved.resolve();
      await withinMs(CLOSE_WAIT_MS, Promise.all([following, writer.close(), reader.close()]));
    },
  };
}

async function endOf(reader: PartitionReader, topic: string): Promise<bigint> {
  try {
    return (await reader.offsets(topic, 'end')).get(0) ?? 0n;
  } catch (error) {
    throw toDifyEsError(error, 'find the end of the control topic');
  }
}
