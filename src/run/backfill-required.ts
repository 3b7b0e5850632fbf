import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { TableName } from '../core/contracts.ts';
import { DifyEsError } from '../core/errors.ts';
import type { BackfillRequired, ControlLog } from '../core/state.ts';
import { addRequired } from '../pipeline/backfill/run-record.ts';

const PAUSE_MS = 1_000;

export interface RecordOptions {
  readonly control: ControlLog;
  readonly log: Logger;
  /** Ends the waiting, by throwing. */
  readonly signal?: AbortSignal;
}

/** Records BACKFILL REQUIRED for the tables, however long Kafka is away. */
export async function requireBackfill(options: RecordOptions, tables: readonly TableName[], required: Omit<BackfillRequired, 'table' | 'at'>): Promise<void> {
  const at = new Date().toISOString();
  await insist(options, 'BACKFILL REQUIRED', () => addRequired(options.control, tables.map((table) => ({ ...required, table, at }))));
}

/** Puts a record that outlives Kafka, however long Elasticsearch is away: in one place alone it is lost with that. */
export async function recordDurably(options: RecordOptions, key: string, value: unknown): Promise<void> {
  await insist(options, key, () => options.control.put(key, value));
}

async function insist({ log, signal }: RecordOptions, what: string, record: () => Promise<void>): Promise<void> {
  for (let said = false; ; said = true) {
    try {
      return await record();
    } catch (error) {
      if (!(error instanceof DifyEsError) || !error.code.endsWith('_UNREACHABLE')) throw error;
      if (!said) log.warn({ what, reason: error.message }, 'waiting to record it');
      await sleep(PAUSE_MS, undefined, signal ? { signal } : {});
    }
  }
}
