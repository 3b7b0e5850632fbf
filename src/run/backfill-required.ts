import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { TableName } from '../core/contracts.ts';
import { DifyEsError } from '../core/errors.ts';
import { stateKeys, type BackfillRequired, type ControlLog } from '../core/state.ts';

const PAUSE_MS = 1_000;

export interface RequireOptions {
  readonly control: ControlLog;
  readonly log: Logger;
  /** Ends the waiting, by throwing. */
  readonly signal?: AbortSignal;
}

/**
 * Records BACKFILL REQUIRED for the tables and returns when Kafka and Elasticsearch both have it, however long
 * Elasticsearch is away: what is recorded in one place alone is lost with it. A requirement that asks for more (a
 * reconcile of extra documents) is raised, never weakened.
 */
export async function requireBackfill(options: RequireOptions, tables: readonly TableName[], required: Omit<BackfillRequired, 'table' | 'at'>): Promise<void> {
  const { control, log, signal } = options;
  for (const table of tables) {
    const key = stateKeys.required(table);
    const before = control.get<BackfillRequired>(key);
    const now: BackfillRequired = { ...required, table, at: new Date().toISOString(), reconcile: required.reconcile || (before?.reconcile ?? false) };
    for (let said = false; ; said = true) {
      try {
        await control.put(key, now);
        break;
      } catch (error) {
        if (!(error instanceof DifyEsError) || !error.code.endsWith('_UNREACHABLE')) throw error;
        if (!said) log.warn({ table, reason: error.message }, 'waiting to record BACKFILL REQUIRED');
        await sleep(PAUSE_MS, undefined, signal ? { signal } : {});
      }
    }
  }
}
