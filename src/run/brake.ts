import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { readRetainedWal } from '../ops/watch/source-facts.ts';
import { judgeWal } from '../ops/watch/wal-budget.ts';
import { openPool } from '../pipeline/capture/pg-connection.ts';
import { pgTarget } from './connections.ts';

const LOOK_EVERY_MS = 5_000;

export interface Brake {
  /** Returns at once, or when the slot holds back little enough again. Called before each chunk. */
  mayProceed(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Keeps the backfill from crowding out the stream: while the slot holds back nearly as much WAL as it may, nothing is
 * read, since the sinks and Kafka are needed to let the reader catch up. Without any limit it never brakes.
 */
export function createBrake(config: Config, log: Logger, signal: AbortSignal): Brake {
  const db = openPool(pgTarget(config), { role: 'brake', max: 1, statementTimeoutMs: 10_000 });
  const budgetBytes = config.postgres.walBudget === 0 ? null : config.postgres.walBudget;
  let looking: Promise<void> | undefined;
  let lookedAt = Number.NEGATIVE_INFINITY;

  const look = async (): Promise<void> => {
    for (let said = false; !signal.aborted; said = true) {
      const wal = await readRetainedWal(db, config.postgres.slot);
      const verdict = wal && judgeWal([{ atMs: Date.now(), retainedBytes: wal.retainedBytes }], { serverBytes: wal.serverBytes, budgetBytes });
      if (!verdict || verdict.level === 'ok' || verdict.level === 'unlimited') break;
      if (!said) log.warn({ retainedBytes: verdict.retainedBytes, limitBytes: verdict.limitBytes }, 'the backfill waits: the slot holds back nearly as much WAL as it may');
      await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
    lookedAt = performance.now();
  };

  return {
    async mayProceed() {
      if (performance.now() - lookedAt < LOOK_EVERY_MS) return;
      // one look for all workers; a server that is away is the next chunk's to find out
      looking ??= look().catch(() => undefined).finally(() => (looking = undefined));
      await looking;
    },
    close: () => db.end(),
  };
}
