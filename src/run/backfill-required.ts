import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { TableName } from '../core/contracts.ts';
import { DifyEsError } from '../core/errors.ts';
import { stateKeys, type BackfillRequired, type ControlLog } from '../core/state.ts';

const PAUSE_MS = 1_000;

export interface RecordOptions {
  readonly control: ControlLog;
  readonly log: Logger;
  /** Ends the waiting, by throwing. */
  readonly signal?: AbortSignal;
}

/**
 * Records BACKFILL REQUIRED for the tables and returns when Kafka and Elasticsearch both have it. A requirement that asks
 * for more (a reconcile of extra documents) is raised, never weakened.
 */
export async function requireBackfill(options: RecordOptions, tables: readonly TableName[], required: Omit<BackfillRequired, 'table' | 'at'>): Promise<void> {
  for (const table of tables) {
    const key = stateKeys.required(table);
    const before = options.control.get<BackfillRequired>(key);
    const now: BackfillRequired = { ...required, table, at: new Date().toISOString(), reconcile: required.reconcile || (before?.reconcile ?? false) };
    await recordDurably(options, key, now);
  }
}

/**
 * Puts a record that outlives Kafka, however long Elasticsearch is away: what is recorded in one place alone is lost
 * with it.
 */
export async function recordDurably({ control, log, signal }: RecordOptions, key: string, value: unknown): Promise<void> {
  for (let said = false; ; said = true) {
    try {
      return await control.put(key, value);
    } catch (error) {
      if (!(error instanceof DifyEsError) || !error.code.endsWith('_UNREACHABLE')) throw error;
      if (!said) log.warn({ key, reason: error.message }, 'waiting to record what must outlive Kafka');
      await sleep(PAUSE_MS, undefined, signal ? { signal } : {});
    }
  }
}
