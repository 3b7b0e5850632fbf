import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Publisher, PublishTransaction } from '../../core/contracts.ts';
import { DifyEsError, type ErrorCode } from '../../core/errors.ts';

export interface PublishOptions {
  /**
   * Throws when another reader holds the slot. Asked before anything is tried again, after `begin`: a publisher that
   * recovers fences whoever has the role by now, and older records must not be appended after that reader's newer ones.
   */
  readonly assertStillOurs: () => Promise<void>;
  readonly retry: { readonly firstMs: number; readonly longestMs: number };
  /** Aborted when there is no time left: the batch stays unpublished and unconfirmed. */
  readonly giveUp: AbortSignal;
  readonly log: Logger;
}

/** Trying again cannot help, or would do harm. */
const FINAL: ReadonlySet<ErrorCode> = new Set(['KAFKA_FENCED', 'KAFKA_AUTH', 'KAFKA_LAYOUT_CHANGED', 'KAFKA_DATA_LOST', 'INTERNAL', 'CONFIG_INVALID']);

/** A broker that starts may not know its topics for a moment. Topics that are gone for longer come back only by setup. */
const TOPICS_RETURN_WITHIN_MS = 20_000;

/**
 * Does `work` in one Kafka transaction, again and again until it is committed: a batch is never skipped. `work` must be
 * able to run anew. Throws what PostgreSQL says (the caller reconnects), KAFKA_FENCED and other errors that are final.
 */
export async function inTransaction(publisher: Publisher, work: (transaction: PublishTransaction) => Promise<void>, options: PublishOptions): Promise<void> {
  let missingSince: number | undefined;
  for (let attempt = 0; ; attempt++) {
    let transaction: PublishTransaction | undefined;
    try {
      transaction = await publisher.begin();
      if (attempt > 0) await options.assertStillOurs();
      await work(transaction);
      await transaction.commit();
      return;
    } catch (error) {
      await transaction?.abort();
      if (isFinal(error)) throw error;
      missingSince = codeOf(error) === 'KAFKA_TOPIC_MISSING' ? (missingSince ?? performance.now()) : undefined;
      if (missingSince !== undefined && performance.now() - missingSince > TOPICS_RETURN_WITHIN_MS) throw error;
      options.giveUp.throwIfAborted();
      const pauseMs = Math.min(options.retry.firstMs * 2 ** Math.min(attempt, 16), options.retry.longestMs);
      options.log.warn({ attempt: attempt + 1, pauseMs, code: codeOf(error) }, 'Kafka did not take the batch; trying again');
      await sleep(pauseMs, undefined, { signal: options.giveUp });
    }
  }
}

function isFinal(error: unknown): boolean {
  if (error instanceof DifyEsError) return FINAL.has(error.code) || error.code.startsWith('PG_');
  return error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
}

function codeOf(error: unknown): string {
  if (error instanceof DifyEsError) return error.code;
  const { type, name } = error as { type?: unknown; name?: unknown };
  return String(type ?? name ?? 'unknown');
}
