import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { DifyEsError } from '../../core/errors.ts';
import { type ControlLog, stateKeys, type WriterRecord } from '../../core/state.ts';
import { PRODUCER_RETRY } from './idempotent-writer.ts';
import { classifyKafkaError, toDifyEsError } from './kafka-errors.ts';
import type { KafkaClient, Producer, Transaction } from './kafkajs.ts';
import { withinMs } from './patience.ts';

export interface WriterRoleOptions {
  readonly kafka: KafkaClient;
  readonly control: ControlLog;
  readonly controlTopic: string;
  readonly transactionalId: string;
  readonly transactionTimeoutMs: number;
  /**
   * What it means that nobody's name is on a role which this process has claimed. `data-lost`: nothing but the loss of
   * Kafka's data takes that name away. `fenced`: names of the backfill's writers are taken away once they are fenced.
   */
  readonly whenNameless: 'data-lost' | 'fenced';
  readonly logger: Logger;
}

/** The holder of one transactional.id: whose transactions are open, and whether it still holds the role. */
export interface WriterRole {
  /** Takes the role over at the first call, which ends whatever an earlier holder had open. */
  begin(): Promise<Transaction>;
  /** The transaction was committed: the producer may be used again. */
  ended(): void;
  /** What an error of the open transaction means. The producer is thrown away. */
  failed(error: unknown, doing: string): Promise<DifyEsError>;
  /** Never throws. */
  abort(transaction: Transaction): Promise<void>;
  close(): Promise<void>;
}

/** How long to wait for the record of whoever fenced this process; it is written right after the taking over. */
const CLAIM_WAIT_MS = 2_000;
const CLOSE_WAIT_MS = 2_000;

/**
 * Fencing, and when it is safe to go on.
 *
 * A producer is used again only after a commit or an abort that went well. After anything else its sequence numbers are
 * a guess (see createIdempotentWriter), so it is replaced: InitProducerId ends the open transaction and raises the
 * epoch. That would also throw out a successor: a process that was stopped for a minute would take the role back and
 * write its old rows behind newer ones. Therefore each holder puts its name on the control topic, in a transaction of
 * its own, before it writes anything; and who replaces its producer looks there before and after. Before, so that a
 * successor is left in peace; after, because from then on nobody else can commit, so what is read there is final.
 */
export function createWriterRole(options: WriterRoleOptions): WriterRole {
  const { kafka, control, controlTopic, transactionalId, transactionTimeoutMs, whenNameless, logger } = options;
  const instance = randomUUID();
  const claimKey = stateKeys.writer(transactionalId);
  let producer: Producer | undefined;
  let claimed = false;
  /** Whose name was on the role when this process first looked: until ours is, any other one is a successor's. */
  let before: { readonly instance: string | undefined } | undefined;
  let clean = true;
  let begunAt = 0;

  /** `us` also while nobody but us has come since this process first looked. */
  const holder = async (): Promise<'us' | 'another' | 'nobody'> => {
    await control.refresh();
    const name = control.get<WriterRecord>(claimKey)?.instance;
    before ??= { instance: name };
    if (name === instance || (!claimed && name === before.instance)) return 'us';
    return name === undefined && whenNameless === 'data-lost' ? 'nobody' : 'another';
  };

  const fenced = (): DifyEsError => new DifyEsError('KAFKA_FENCED', `another process has taken over the role ${transactionalId}`);

  /**
   * What was published and perhaps not indexed yet is gone. Going on would hide it: the state that this process keeps
   * would be written to the new topics, where the next start looks for it to see whether they are new.
   */
  const assertOurs = async (): Promise<void> => {
    const now = await holder();
    if (now === 'another') throw fenced();
    if (now === 'nobody') throw new DifyEsError('KAFKA_DATA_LOST', 'Kafka\'s data was deleted while this process was running');
  };

  const discard = async (): Promise<void> => {
    const old = producer;
    producer = undefined;
    if (old) await withinMs(CLOSE_WAIT_MS, old.disconnect());
  };

  const connect = async (): Promise<Producer> => {
    const fresh = kafka.producer({
      transactionalId, transactionTimeout: transactionTimeoutMs, idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false,
      retry: PRODUCER_RETRY, createPartitioner: () => ({ message }) => message.partition ?? 0,
    });
    producer = fresh;
    await fresh.connect();
    return fresh;
  };

  const claim = async (fresh: Producer): Promise<void> => {
    const transaction = await fresh.transaction();
    const value = JSON.stringify({ instance, at: new Date().toISOString() } satisfies WriterRecord);
    await transaction.send({ topic: controlTopic, acks: -1, messages: [{ key: claimKey, value, partition: 0 }] });
    await transaction.commit();
    claimed = true;
  };

  const takeOver = async (): Promise<Producer> => {
    await assertOurs();
    begunAt = Date.now();
    const fresh = await connect();
    if (!claimed) {
      await claim(fresh);
      return fresh;
    }
    // InitProducerId happens here; an empty transaction leaves no trace on the brokers.
    await (await fresh.transaction()).abort();
    await assertOurs();
    return fresh;
  };

  /** Younger than its timeout, a transaction cannot have expired: then only another process can be behind the answer. */
  const whoEndedIt = async (): Promise<DifyEsError> => {
    const expired = Date.now() - begunAt >= transactionTimeoutMs;
    const deadline = Date.now() + (expired ? 0 : CLAIM_WAIT_MS);
    do {
      if ((await holder().catch(() => 'us')) === 'another') return fenced();
      if (!expired) await sleep(100);
    } while (Date.now() < deadline);
    return expired ? new DifyEsError('KAFKA_UNREACHABLE', `Kafka ended a transaction that was open for more than ${transactionTimeoutMs} ms`) : fenced();
  };

  return {
    async begin() {
      try {
        if (producer && !clean) await discard();
        const ready = producer ?? (await takeOver());
        clean = false;
        begunAt = Date.now();
        return await ready.transaction();
      } catch (error) {
        await discard();
        if (error instanceof DifyEsError) throw error;
        throw classifyKafkaError(error).code === 'KAFKA_FENCED' ? await whoEndedIt() : toDifyEsError(error, 'begin a transaction');
      }
    },
    ended: () => void (clean = true),
    async failed(error, doing) {
      const { code, retriable, reason } = classifyKafkaError(error);
      if (code === 'KAFKA_FENCED') return whoEndedIt();
      logger.debug({ transactionalId, reason, retriable }, `could not ${doing}`);
      return toDifyEsError(error, doing);
    },
    async abort(transaction) {
      if (clean) return;
      const answered = !transaction.isActive() || (await withinMs(CLOSE_WAIT_MS, transaction.abort()));
      const discarded = discard();
      if (answered) await discarded;
    },
    close: discard,
  };
}
