import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { DifyEsError } from '../../core/errors.ts';
import type { ControlChange } from '../../core/state.ts';
import { PRODUCER_RETRY } from './idempotent-writer.ts';
import { classifyKafkaError, toDifyEsError } from './kafka-errors.ts';
import type { KafkaClient, Producer, Transaction } from './kafkajs.ts';
import { withinMs } from './patience.ts';

export interface ControlChangeOptions {
  readonly kafka: KafkaClient;
  readonly topic: string;
  readonly refresh: () => Promise<void>;
  readonly logger: Logger;
}

const CLOSE_WAIT_MS = 2_000;
const TRANSACTION_TIMEOUT_MS = 10_000;
/** How long others may come first, or brokers be away, before a change is given up. */
const PATIENCE_MS = 30_000;
const LONGEST_PAUSE_MS = 200;

/**
 * Read, decide, write, as one step among all processes, by the fencing of one transactional.id that all of them share.
 *
 * Taking the id over ends whatever its former holder had open, and keeps it from committing anything more. So what is
 * read after that holds until our own commit: had anybody changed it in between, he would have taken the id over too,
 * and our commit would be refused. Then it is done again from the reading on. Nothing is locked, so a process that dies
 * or stands still in the middle holds nobody up.
 */
export function createControlChange({ kafka, topic, refresh, logger }: ControlChangeOptions): <T>(decide: () => ControlChange<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();

  const attempt = async <T>(decide: () => ControlChange<T>, producer: Producer): Promise<T> => {
    const transaction = await takeOver(producer);
    await refresh();
    const change = decided(decide);
    if (change.writes.length === 0) {
      await transaction.abort();
      return change.result;
    }
    const messages = change.writes.map(([key, value]) => ({ key, value: value === null ? null : JSON.stringify(value), partition: 0 }));
    await transaction.send({ topic, acks: -1, messages });
    await transaction.commit();
    await refresh();
    return change.result;
  };

  const change = async <T>(decide: () => ControlChange<T>): Promise<T> => {
    const deadline = Date.now() + PATIENCE_MS;
    for (let attempts = 1; ; attempts++) {
      const producer = kafka.producer({
        transactionalId: `${topic}/change`, transactionTimeout: TRANSACTION_TIMEOUT_MS, idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false,
        retry: PRODUCER_RETRY, createPartitioner: () => () => 0,
      });
      try {
        return await attempt(decide, producer);
      } catch (error) {
        if (error instanceof Undecided) throw error.cause;
        const { code, retriable, reason } = classifyKafkaError(error);
        if ((code !== 'KAFKA_FENCED' && !retriable) || Date.now() >= deadline) throw toDifyEsError(error, 'change the state');
        logger.debug({ reason, attempts }, 'a change of the state is decided again');
        // By chance, so that two that met do not meet again.
        await sleep(Math.random() * Math.min(LONGEST_PAUSE_MS, 10 * 2 ** attempts));
      } finally {
        await withinMs(CLOSE_WAIT_MS, producer.disconnect());
      }
    }
  };

  return (decide) => {
    const turn = last.then(() => change(decide));
    last = turn.catch(() => undefined);
    return turn;
  };
}

/**
 * kafkajs counts a broker that takes the connection and never answers (one that was stopped) as connected, and its first
 * request then fails with an Error without a name of its own. Nothing was written by then: it is away, and no fault of ours.
 */
async function takeOver(producer: Producer): Promise<Transaction> {
  try {
    await producer.connect();
    return await producer.transaction();
  } catch (error) {
    const { code, reason } = classifyKafkaError(error);
    if (code !== 'INTERNAL' || reason !== 'Error') throw error;
    throw new DifyEsError('KAFKA_UNREACHABLE', 'Kafka: a broker takes the connection and does not answer', { cause: error });
  }
}

/** What deciding threw: the caller's own, never a reason to try again. */
class Undecided extends Error {}

function decided<T>(decide: () => T): T {
  try {
    return decide();
  } catch (error) {
    throw new Undecided('the decision failed', { cause: error });
  }
}
