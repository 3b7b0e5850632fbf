import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { TABLES } from '../core/contracts.ts';
import { crashPoint } from '../core/crash-point.ts';
import { DifyEsError } from '../core/errors.ts';
import { stateKeys, type ControlLog, type EpochRecord } from '../core/state.ts';
import { readRetainedWal, readWatchedTables, type WatchedTable } from '../ops/watch/source-facts.ts';
import { judgeWal, type WalSample, type WalVerdict } from '../ops/watch/wal-budget.ts';
import { openPool, query, type Queryable } from '../pipeline/capture/pg-connection.ts';
import { dropSlot } from '../pipeline/capture/slot.ts';
import { requireBackfill } from './backfill-required.ts';
import { pgTarget } from './connections.ts';
import { driftOf, recordColumns } from './schema-drift.ts';

const EVERY_MS = 10_000;
const FREE_WITHIN_MS = 10_000;
/** What Kafka may take to record the loss of the slot, while the disk fills. */
const RECORD_WITHIN_MS = 10_000;
/** Ten minutes of growth. */
const SAMPLES = 60;

export interface SourceWatchOptions {
  readonly config: Config;
  readonly control: ControlLog;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Ends the reader, so that its slot can be dropped: WAL_BUDGET_ACTION=drop-slot. */
  readonly stopReader: () => Promise<void>;
  readonly onWal?: (verdict: WalVerdict) => void;
  readonly onTables?: (tables: readonly WatchedTable[]) => void;
  readonly everyMs?: number;
}

/**
 * Looks after the source while the reader runs: columns that changed without a record in the log, tables that an upgrade
 * added and the publication lacks, an identity index that was dropped, and the WAL that the slot holds back.
 *
 * Ends with the signal, or throws PG_SLOT_LOST after it gave the slot up. A server that is away is the reader's to report.
 */
export async function watchSource(options: SourceWatchOptions): Promise<void> {
  const failed = new AbortController();
  const watched = { ...options, signal: AbortSignal.any([options.signal, failed.signal]) };
  const db = openPool(pgTarget(options.config), { role: 'watch', max: 2, statementTimeoutMs: 30_000 });
  const samples: WalSample[] = [];
  const said = new Set<string>();
  try {
    // Beside each other: what is found out about a table waits for Kafka to be recorded, and the WAL grows meanwhile.
    await Promise.all([repeat(watched, () => watchTables(watched, db, said)), repeat(watched, () => watchWal(watched, db, samples, said))]);
  } finally {
    failed.abort();
    await db.end();
  }
}

async function repeat({ signal, everyMs = EVERY_MS }: SourceWatchOptions, look: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    try {
      await look();
    } catch (error) {
      // Stopped while it waited for Kafka to record something: the next start finds it out again.
      if (signal.aborted && (error as Error).name === 'AbortError') return;
      if (!(error instanceof DifyEsError) || !error.code.endsWith('_UNREACHABLE')) throw error;
    }
    await sleep(everyMs, undefined, { signal }).catch(() => undefined);
  }
}

async function watchTables(options: SourceWatchOptions, db: Queryable, said: Set<string>): Promise<void> {
  const { config, control, log } = options;
  const tables = await readWatchedTables(db, config.postgres.schema, config.postgres.publication);
  options.onTables?.(tables);
  for (const table of tables) {
    await noteDrift(options, db, table);
    const { shape, published, identityUsable } = table;
    once(said, `identity ${shape.table}`, !identityUsable, () => log.error({ table: shape.table }, 'the identity index is gone or unusable: every UPDATE and DELETE of Dify fails; run `dify-es setup` at once'));
    once(said, `published ${shape.table}`, !published, () => log.error({ table: shape.table }, 'the table is not in the publication: its changes are lost; run `dify-es setup` and migrate'));
    if (!published && !control.get(stateKeys.required(shape.table))) {
      await requireBackfill(options, [shape.table], { reason: 'schema-drift', ...(await positionNow(db, control)), reconcile: true });
    }
  }
}

async function noteDrift(options: SourceWatchOptions, db: Queryable, { shape }: WatchedTable): Promise<void> {
  const { control, log } = options;
  const drift = driftOf(control, shape);
  if (drift === 'same') return;
  if (drift !== 'first') {
    log.warn({ table: shape.table, added: drift.added, removed: drift.removed }, 'the columns of the table have changed without a record of its rows: a backfill of it is required');
    await requireBackfill(options, [shape.table], { reason: 'schema-drift', ...(await positionNow(db, control)), reconcile: false });
  }
  await recordColumns(control, shape);
}

async function watchWal(options: SourceWatchOptions, db: Queryable, samples: WalSample[], said: Set<string>): Promise<void> {
  const { config, log, onWal } = options;
  const { slot, walBudget, walBudgetAction } = config.postgres;
  const wal = await readRetainedWal(db, slot);
  if (!wal) return;
  samples.push({ atMs: Date.now(), retainedBytes: wal.retainedBytes });
  if (samples.length > SAMPLES) samples.shift();
  const verdict = judgeWal(samples, { serverBytes: wal.serverBytes, budgetBytes: walBudget === 0 ? null : walBudget });
  onWal?.(verdict);
  const fields = { retainedBytes: verdict.retainedBytes, limitBytes: verdict.limitBytes, bytesPerSecond: Math.round(verdict.bytesPerSecond), secondsLeft: verdict.secondsLeft };
  once(said, 'wal unlimited', verdict.level === 'unlimited', () => log.warn(fields, 'neither max_slot_wal_keep_size nor WAL_BUDGET is set: a stopped reader can fill the disk of PostgreSQL'));
  once(said, 'wal near', verdict.level === 'near', () => log.warn(fields, 'the slot holds back nearly as much WAL as it may'));
  once(said, 'wal past', verdict.level === 'past', () => log.error(fields, 'the slot holds back more WAL than it may'));
  if (verdict.level === 'past' && walBudget > 0 && verdict.retainedBytes >= walBudget && walBudgetAction === 'drop-slot') await giveUpSlot(options, db, verdict);
}

/** The disk of the application counts more than our position. Recorded first, so that `status` says it from then on. */
async function giveUpSlot(options: SourceWatchOptions, db: Queryable, verdict: WalVerdict): Promise<never> {
  const { config, log, stopReader } = options;
  if (await recordLoss(options, db)) crashPoint('stream.slot-loss-recorded');
  else log.error('Kafka is away: the slot is dropped all the same, and BACKFILL REQUIRED will be recorded by `dify-es setup`');
  await stopReader();
  await dropWhenFree(db, config.postgres.slot);
  throw new DifyEsError('PG_SLOT_LOST', `WAL_BUDGET_ACTION=drop-slot: the slot held back ${Math.round(verdict.retainedBytes / 1048576)} MB and was dropped to save the disk`);
}

/**
 * False when Kafka did not take it in time. The gap is found without it: a slot that is made anew stands above all that
 * was ever confirmed (see decideEpoch), which setup and the reader take for BACKFILL REQUIRED of all tables.
 */
async function recordLoss(options: SourceWatchOptions, db: Queryable): Promise<boolean> {
  const required = { reason: 'slot-lost', ...(await positionNow(db, options.control)), reconcile: true } as const;
  const over = new AbortController();
  const signal = AbortSignal.any([options.signal, over.signal]);
  try {
    return await Promise.race([requireBackfill({ ...options, signal }, TABLES, required).then(() => true), sleep(RECORD_WITHIN_MS, false, { signal })]);
  } finally {
    over.abort();
  }
}

/** The server lets go of the slot a moment after our connection has ended. Throws PG_SLOT_BUSY when another reader holds it. */
async function dropWhenFree(db: Queryable, slot: string): Promise<void> {
  for (const deadline = Date.now() + FREE_WITHIN_MS; ; await sleep(100)) {
    try {
      return await dropSlot(db, slot);
    } catch (error) {
      if (!(error instanceof DifyEsError) || error.code !== 'PG_SLOT_BUSY' || Date.now() > deadline) throw error;
    }
  }
}

/** Only a run whose barrier comes after this moment has read what was found out now. */
async function positionNow(db: Queryable, control: ControlLog): Promise<{ sinceLsn: string; sinceEpoch: number }> {
  const [row] = await query<{ lsn: string }>(db, 'SELECT pg_current_wal_insert_lsn()::text AS lsn');
  return { sinceLsn: row!.lsn, sinceEpoch: control.get<EpochRecord>(stateKeys.epoch)?.epoch ?? 1 };
}

/** Says a thing when it becomes true, not every ten seconds. */
function once(said: Set<string>, key: string, isTrue: boolean, say: () => void): void {
  if (!isTrue) said.delete(key);
  else if (!said.has(key)) {
    said.add(key);
    say();
  }
}
