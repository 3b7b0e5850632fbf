import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { readRetainedWal } from '../ops/watch/source-facts.ts';
import { judgeLoad, readLoad } from '../ops/watch/source-load.ts';
import { judgeWal } from '../ops/watch/wal-budget.ts';
import { openPool, type Queryable } from '../pipeline/capture/pg-connection.ts';
import { pgTarget } from './connections.ts';

const LOOK_EVERY_MS = 5_000;

export interface Brake {
  /** Returns at once, or when the source fares well enough again. Called before each chunk. */
  mayProceed(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Keeps the backfill from crowding out the stream and Dify itself. It waits while the slot holds back nearly as much WAL
 * as it may, since the sinks and Kafka are needed to let the reader catch up, and while the reader, a standby or the
 * sessions of others fall behind (src/ops/watch/source-load.ts). It says why it waits, once, and when it goes on.
 */
export function createBrake(config: Config, log: Logger, signal: AbortSignal, everyMs = LOOK_EVERY_MS): Brake {
  const db = openPool(pgTarget(config), { role: 'brake', max: 1, statementTimeoutMs: 10_000 });
  let looking: Promise<void> | undefined;
  let lookedAt = Number.NEGATIVE_INFINITY;

  const look = async (): Promise<void> => {
    let said: string | null = null;
    while (!signal.aborted) {
      const why = await reasonToWait(config, db, said !== null);
      if (why === null) break;
      if (said === null) log.warn({ why }, 'the backfill waits to spare the source');
      said ??= why;
      await sleep(everyMs, undefined, { signal }).catch(() => undefined);
    }
    if (said !== null && !signal.aborted) log.info('the backfill goes on: the source fares well again');
  };

  return {
    async mayProceed() {
      if (performance.now() - lookedAt < everyMs) return;
      // one look for all workers; a server that is away is the next chunk's to find out
      looking ??= look().catch(() => undefined).finally(() => {
        lookedAt = performance.now();
        looking = undefined;
      });
      await looking;
    },
    close: () => db.end(),
  };
}

/** Null: it may read. */
async function reasonToWait({ postgres, program }: Config, db: Queryable, braking: boolean): Promise<string | null> {
  const wal = await readRetainedWal(db, postgres.slot);
  const verdict = wal && judgeWal([{ atMs: Date.now(), retainedBytes: wal.retainedBytes }], { serverBytes: wal.serverBytes, budgetBytes: postgres.walBudget === 0 ? null : postgres.walBudget });
  if (verdict && (verdict.level === 'near' || verdict.level === 'past')) return `the slot holds back nearly as much WAL as it may (${Math.round(100 * (verdict.share ?? 0))} %)`;
  return judgeLoad(await readLoad(db, postgres.slot), { lagBytes: program.maxLagBytes, standbyLagSeconds: program.maxStandbyLagSeconds, waiting: program.maxWaiting }, braking).why;
}
