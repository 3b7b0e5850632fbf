import type { Gauge } from 'prom-client';
import type { TableProgress } from '../../pipeline/backfill/table-scan.ts';
import type { MadeRecords } from '../../core/contracts.ts';
import type { StreamProgress } from '../../pipeline/capture/stream-contract.ts';
import type { SinkProgress } from '../../run/sink.ts';
import type { WatchedTable } from '../watch/source-facts.ts';
import type { WalVerdict } from '../watch/wal-budget.ts';
import type { Metrics } from './metrics.ts';

/** The reader's counts are totals since its start; counters want what was added. */
export function streamNotes({ stream }: Metrics): (progress: StreamProgress) => void {
  let [transactions, records, deadLetters] = [0, 0, 0];
  return (now) => {
    stream.transactions.inc(now.transactions - transactions);
    stream.published.inc(now.records - records);
    stream.parked.inc(now.deadLetters - deadLetters);
    ({ transactions, records, deadLetters } = now);
    stream.buffered.set(now.bufferedBytes);
    const { receivedLsn: received, confirmedLsn: confirmed, epoch, lastCommitTimeMs } = now;
    put(stream.epoch, epoch);
    put(stream.receivedLsn, received === null ? null : Number(received));
    put(stream.confirmedLsn, confirmed === null ? null : Number(confirmed));
    put(stream.unconfirmed, received === null || confirmed === null ? null : Math.max(0, Number(received - confirmed)));
    put(stream.lastCommit, lastCommitTimeMs === null ? null : lastCommitTimeMs / 1000);
  };
}

/**
 * Seconds; undefined while nothing can be said. The age of the last commit says nothing of a source that is idle, so it
 * counts only while there is log that waits, or while there is no connection and nobody knows.
 */
export function streamLag({ connected, bufferedBytes, lastCommitTimeMs }: Pick<StreamProgress, 'connected' | 'bufferedBytes' | 'lastCommitTimeMs'>, nowMs: number): number | undefined {
  if (connected && bufferedBytes === 0) return 0;
  return lastCommitTimeMs === null ? undefined : Math.max(0, (nowMs - lastCommitTimeMs) / 1000);
}

export function noteMade({ stream }: Metrics, { records }: MadeRecords): void {
  for (const { table, op } of records) stream.made.inc({ table, op });
}

export function noteWal({ slot }: Metrics, { level, retainedBytes, limitBytes, share, bytesPerSecond, secondsLeft }: WalVerdict): void {
  slot.retained.set(retainedBytes);
  slot.growth.set(bytesPerSecond);
  slot.unlimited.set(level === 'unlimited' ? 1 : 0);
  put(slot.limit, limitBytes);
  put(slot.share, share);
  put(slot.left, secondsLeft);
}

/** A gauge that keeps a value which no longer holds would sound, or silence, an alarm. */
function put(gauge: Gauge, value: number | null): void {
  if (value === null) gauge.remove();
  else gauge.set(value);
}

export function noteTables({ source }: Metrics, tables: readonly WatchedTable[]): void {
  for (const { shape: { table }, published, identityUsable } of tables) {
    source.identityBroken.set({ table }, identityUsable ? 0 : 1);
    source.unpublished.set({ table }, published ? 0 : 1);
  }
}

export function noteBatch({ sink }: Metrics, { table, result, tookMs, newestMs }: SinkProgress): void {
  for (const [outcome, count] of Object.entries(result.counts)) if (count > 0) sink.records.inc({ table, outcome }, count);
  sink.invalidJson.inc({ table }, result.invalidJson);
  sink.bulkBytes.inc({ table }, result.bulkBytes);
  sink.batchSeconds.observe({ table }, tookMs / 1000);
  if (newestMs !== null) sink.newest.set({ table }, newestMs / 1000);
}

/** Until `left` is done too, at the rate of what was `done` in `tookMs`; null while nothing is. Any unit, the same in both. */
export function secondsLeft(left: number, done: number, tookMs: number): number | null {
  return done > 0 ? (left * tookMs) / done / 1000 : null;
}

/** The rate is that of this process: pages read by a run that was resumed took other time. */
export function backfillNotes({ backfill }: Metrics, now: () => number = Date.now): (progress: TableProgress) => void {
  const begins = new Map<string, { readonly atMs: number; readonly blocks: number }>();
  return ({ table, scan, rows, bytes, blocksDone, blocks, done }) => {
    const key = `${table}/${scan}`;
    const began = begins.get(key) ?? { atMs: now(), blocks: blocksDone };
    begins.set(key, began);
    backfill.rows.set({ table }, rows);
    backfill.bytes.set({ table }, bytes);
    backfill.share.set({ table }, done || blocks === 0 ? 1 : blocksDone / blocks);
    const left = done ? 0 : secondsLeft(blocks - blocksDone, blocksDone - began.blocks, now() - began.atMs);
    if (left !== null) backfill.left.set({ table }, left);
  };
}
