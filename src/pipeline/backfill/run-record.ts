import { TABLES, type TableName } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { formatLsn, maxLsn, parseLsn } from '../../core/lsn.ts';
import type { BackfillFilter, BackfillMember, BackfillRequired, BackfillRun, ControlLog, EpochRecord } from '../../core/state.ts';
import { stateKeys } from '../../core/state.ts';
import { readsWholeTables, sameFilter } from './filter.ts';

/** The beginnings of keys under which all runs, and all requirements, are found. */
const RUNS = stateKeys.run('');

/** Where the stream stands: a run belongs to one epoch and one slot. */
export interface SourceIdentity {
  readonly epoch: number;
  readonly slot: string;
}

export function allRuns(control: Pick<ControlLog, 'entries'>): BackfillRun[] {
  return control.entries<BackfillRun>(RUNS).map(([, run]) => run);
}

/** BACKFILL REQUIRED records of all tables. */
export function allRequired(control: Pick<ControlLog, 'get'>): BackfillRequired[] {
  return TABLES.map((table) => control.get<BackfillRequired>(stateKeys.required(table))).filter((record) => record !== undefined);
}

/**
 * Why an open run cannot go on, or undefined. Its rows carry the version of its barrier: with another epoch they would
 * lose against, or with a re-created slot win over, changes that they have not seen.
 */
export function voidReason(run: BackfillRun, now: SourceIdentity, required: readonly BackfillRequired[]): string | undefined {
  if (run.epoch !== now.epoch) return `epoch ${now.epoch} began after it`;
  if (run.slot !== now.slot) return 'it belongs to another slot';
  const since = required.find((record) => SLOT_REASONS.has(record.reason) && (record.sinceEpoch > run.epoch || parseLsn(record.gapLsn ?? record.sinceLsn) > parseLsn(run.barrierLsn)));
  return since && `${since.reason} after its barrier: changes may be missing`;
}

/** Reasons that say that the stream has a gap. Schema drift asks for another run of its table afterwards, no more. */
const SLOT_REASONS: ReadonlySet<BackfillRequired['reason']> = new Set(['slot-created', 'slot-lost', 'new-epoch', 'kafka-data-lost', 'source-restored']);

export type StartDecision =
  | { readonly kind: 'resume'; readonly run: BackfillRun; readonly voided: readonly Voided[] }
  | { readonly kind: 'new'; readonly voided: readonly Voided[] }
  | { readonly kind: 'refuse'; readonly open: BackfillRun };
export interface Voided {
  readonly run: BackfillRun;
  readonly reason: string;
}

/** What `migrate` does with the runs it finds. The filter is a normalized one. */
export function decideStart(runs: readonly BackfillRun[], filter: BackfillFilter, now: SourceIdentity, required: readonly BackfillRequired[]): StartDecision {
  const voided: Voided[] = [];
  const open: BackfillRun[] = [];
  for (const run of runs) {
    if (run.state !== 'open') continue;
    const reason = voidReason(run, now, required);
    if (reason === undefined) open.push(run);
    else voided.push({ run, reason });
  }
  const same = open.find((run) => sameFilter(run.filter, filter));
  if (same) return { kind: 'resume', run: same, voided };
  const other = open[0];
  return other ? { kind: 'refuse', open: other } : { kind: 'new', voided };
}

/** Why a run must stop while it reads, or undefined: somebody abandoned it, or the source changed. */
export function stopReason(control: Pick<ControlLog, 'get'>, run: BackfillRun): string | undefined {
  const recorded = control.get<BackfillRun>(stateKeys.run(run.runId));
  if (recorded?.state !== 'open') return 'it was abandoned';
  const epoch = control.get<EpochRecord>(stateKeys.epoch);
  return voidReason(run, epoch ?? run, allRequired(control));
}

/**
 * Throws KAFKA_FENCED when others have given this process up: its segments are theirs now. Right only as of the last
 * refresh of the view, which is why the writers are fenced too; this spares the work.
 */
export function assertMember(control: Pick<ControlLog, 'get'>, { runId, memberId }: BackfillMember): BackfillMember {
  const recorded = control.get<BackfillMember>(stateKeys.member(runId, memberId));
  if (!recorded || recorded.givenUp) throw new DifyEsError('KAFKA_FENCED', 'this process stood still for too long, and another one has taken its ranges over');
  return recorded;
}

/** What becomes of a BACKFILL REQUIRED record once this run has read its table to the end. */
export function satisfies(run: BackfillRun, required: BackfillRequired): 'no' | 'yes' | 'reconcile-left' {
  if (!readsWholeTables(run.filter) || !run.filter.tables.includes(required.table)) return 'no';
  if (run.epoch < required.sinceEpoch || parseLsn(run.barrierLsn) < parseLsn(required.sinceLsn)) return 'no';
  return required.reconcile ? 'reconcile-left' : 'yes';
}

/**
 * A requirement that asks for more stays: neither a later position nor a reconcile is ever taken back by a new one, nor
 * the graver reason before a run has read the table: cleanup-pg would delete rows that Kafka has lost.
 */
export function mergeRequired(existing: BackfillRequired | undefined, fresh: BackfillRequired): BackfillRequired {
  if (!existing) return fresh;
  const merged = { ...fresh, ...laterStart(existing, fresh), reconcile: existing.reconcile || fresh.reconcile };
  if (existing.backfilledBy !== undefined || gravity(existing.reason) <= gravity(fresh.reason)) return merged;
  const { reason, gapLsn = existing.sinceLsn } = existing;
  // A later drift moves the start, not the gap: a run that began between the two goes on.
  return SLOT_REASONS.has(fresh.reason) ? { ...merged, reason } : { ...merged, reason, gapLsn };
}

function laterStart(existing: BackfillRequired, fresh: BackfillRequired): Pick<BackfillRequired, 'sinceEpoch' | 'sinceLsn'> {
  if (existing.sinceEpoch < fresh.sinceEpoch) return { sinceEpoch: fresh.sinceEpoch, sinceLsn: fresh.sinceLsn };
  return { sinceEpoch: existing.sinceEpoch, sinceLsn: formatLsn(maxLsn(parseLsn(existing.sinceLsn), parseLsn(fresh.sinceLsn))) };
}

function gravity(reason: BackfillRequired['reason']): number {
  return reason === 'kafka-data-lost' ? 2 : SLOT_REASONS.has(reason) ? 1 : 0;
}

/** Records the requirements, each merged with what is recorded for its table at that moment. */
export async function addRequired(control: ControlLog, fresh: readonly BackfillRequired[]): Promise<void> {
  await control.change(() => ({
    writes: fresh.map((required) => {
      const key = stateKeys.required(required.table);
      return [key, mergeRequired(control.get<BackfillRequired>(key), required)];
    }),
    result: undefined,
  }));
}

/** Takes back the BACKFILL REQUIRED records that the run satisfies; returns the tables for which one is left. */
export async function clearRequired(control: ControlLog, run: BackfillRun): Promise<TableName[]> {
  return await control.change(() => {
    const left: TableName[] = [];
    const writes: [string, BackfillRequired | null][] = [];
    for (const required of allRequired(control)) {
      const key = stateKeys.required(required.table);
      const verdict = satisfies(run, required);
      if (verdict === 'yes') writes.push([key, null]);
      else left.push(required.table);
      if (verdict === 'reconcile-left' && required.backfilledBy !== run.runId) writes.push([key, { ...required, backfilledBy: run.runId }]);
    }
    return { writes, result: left };
  });
}
