import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../config/config.ts';
import { formatLsn, parseLsn } from '../../core/lsn.ts';
import { query, type Queryable } from '../../pipeline/capture/pg-connection.ts';
import { inspectSlot, type SlotState } from '../../pipeline/capture/slot.ts';
import { readRetainedWal, readWatchedTables } from '../watch/source-facts.ts';
import { judgeWal, type WalSample, type WalVerdict } from '../watch/wal-budget.ts';

export interface SourceStatus {
  readonly version: string;
  readonly currentLsn: string;
  readonly slot: SlotStatus | null;
  readonly wal: WalVerdict | null;
  readonly tables: readonly TableStatus[];
}

export interface SlotStatus {
  readonly name: string;
  /** A reader is connected to it. */
  readonly active: boolean;
  readonly walStatus: SlotState['walStatus'];
  readonly confirmedLsn: string | null;
  /** WAL behind the confirmed position. */
  readonly lagBytes: number | null;
  /**
   * Seconds: while a reader is connected its own flush lag as PostgreSQL measures it (zero when it has caught up),
   * otherwise since when nobody reads (PostgreSQL 17 and later). Null where the server does not know.
   */
  readonly lagSeconds: number | null;
  readonly invalidation: string | null;
}

export interface TableStatus {
  readonly table: string;
  readonly published: boolean;
  readonly identityUsable: boolean;
}

/** The growth of what is held back needs two looks. */
const BETWEEN_MS = 1_000;
/** Of a history: ten minutes at one look in four seconds. */
const SAMPLES = 150;

export type SourceSettings = Pick<Config['postgres'], 'schema' | 'publication' | 'slot' | 'walBudget'>;

/**
 * Errors are DifyEsErrors. `samples`: the looks before this one, of which this is added to; without them growth is what
 * two looks a second apart differ by.
 */
export async function readSource(db: Queryable, settings: SourceSettings, samples: WalSample[] = []): Promise<SourceStatus> {
  const look = async (): Promise<Awaited<ReturnType<typeof readRetainedWal>>> => {
    const wal = await readRetainedWal(db, settings.slot);
    if (wal) samples.push({ atMs: performance.now(), retainedBytes: wal.retainedBytes });
    return wal;
  };
  const first = await look();
  const [server] = await query<{ version: string; lsn: string }>(db, `SELECT current_setting('server_version') AS version, pg_current_wal_lsn()::text AS lsn`);
  const tables = await readWatchedTables(db, settings.schema, settings.publication);
  const slot = await readSlot(db, settings.slot, server!.lsn);
  if (samples.length > SAMPLES) samples.shift();
  if (samples.length === 1) await sleep(BETWEEN_MS);
  const wal = samples.length === 1 ? await look() : first;
  return {
    version: server!.version,
    currentLsn: server!.lsn,
    slot,
    wal: wal && judgeWal(samples, { serverBytes: wal.serverBytes, budgetBytes: settings.walBudget === 0 ? null : settings.walBudget }),
    tables: tables.map(({ shape, published, identityUsable }) => ({ table: shape.table, published, identityUsable })),
  };
}

const LAG = `
  SELECT coalesce(extract(epoch FROM r.flush_lag), CASE WHEN s.active_pid IS NOT NULL THEN 0 END,
                  extract(epoch FROM clock_timestamp() - (to_jsonb(s) ->> 'inactive_since')::timestamptz))::float8 AS seconds
    FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = $1`;

async function readSlot(db: Queryable, name: string, currentLsn: string): Promise<SlotStatus | null> {
  const slot = await inspectSlot(db, name);
  if (!slot) return null;
  const confirmed = slot.confirmedFlushLsn;
  const lagBytes = confirmed === null ? null : Math.max(0, Number(parseLsn(currentLsn) - confirmed));
  const [lag] = await query<{ seconds: number | null }>(db, LAG, [name]);
  return {
    name, active: slot.activePid !== null, walStatus: slot.walStatus, invalidation: slot.invalidation,
    confirmedLsn: confirmed === null ? null : formatLsn(confirmed),
    lagBytes,
    lagSeconds: lagBytes === 0 ? 0 : (lag?.seconds ?? null),
  };
}
