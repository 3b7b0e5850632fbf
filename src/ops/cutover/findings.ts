import type { BackfillRequired, BackfillRun } from '../../core/state.ts';
import { parseLsn } from '../../core/lsn.ts';
import type { SlotState } from '../../pipeline/capture/slot.ts';
import type { TemplateState } from '../../pipeline/sink/templates.ts';
import { fail, ok, warn, type Finding } from '../check/finding.ts';
import type { ValidationVerdict } from '../validate/report.ts';

/*
 * Why a tenant may or may not be switched: each look at a server becomes one finding here. `fail` is a no; `warn` is to
 * be known and no reason to wait. Pure.
 */

/** A tenant's own full run will do where a full run of the whole table is still required. */
export function backfillFinding(tenantId: string, runs: readonly BackfillRun[], required: readonly BackfillRequired[]): Finding {
  const covers = ({ filter }: BackfillRun): boolean => (filter.tenantIds.length === 0 || filter.tenantIds.includes(tenantId)) && filter.from === null && filter.before === null;
  const open = runs.find((run) => run.state === 'open' && (run.filter.tenantIds.length === 0 || run.filter.tenantIds.includes(tenantId)));
  if (open) return fail('backfill', `the run of ${open.startedAt} is open`, 'Run dify-es migrate again until it is done.');
  const left = required.filter(
    ({ table, sinceEpoch, sinceLsn, backfilledBy }) =>
      backfilledBy === undefined &&
      !runs.some((run) => run.state === 'done' && covers(run) && run.filter.tables.includes(table) && run.epoch >= sinceEpoch && parseLsn(run.barrierLsn) >= parseLsn(sinceLsn)),
  );
  if (left.length > 0) return fail('backfill', `required for ${left.map(({ table, reason }) => `${table} (${reason})`).join(', ')}`, `Run dify-es migrate --tenant-id ${tenantId}, or a full one.`);
  return ok('backfill', 'complete');
}

export function slotFinding(slot: Pick<SlotState, 'walStatus' | 'confirmedFlushLsn' | 'activePid'> | undefined, name: string): Finding {
  if (!slot) return fail('slot', `"${name}" is gone`, 'Run dify-es setup and then a full dify-es migrate.');
  if (slot.walStatus === 'lost' || slot.confirmedFlushLsn === null) return fail('slot', `"${name}" is lost`, 'Run dify-es setup and then a full dify-es migrate.');
  if (slot.walStatus === 'unreserved') return fail('slot', `"${name}" is about to lose WAL that it needs`, 'See that dify-es stream gets on; raise max_slot_wal_keep_size.');
  if (slot.activePid === null) return fail('slot', `nobody reads "${name}"`, 'Start dify-es run, or stream and sink.');
  return ok('slot', `"${name}" is being read`);
}

export interface LetterCounts {
  readonly open: number;
  readonly accepted: number;
  /** Open ones that name no row: nobody can say whose they are. */
  readonly unattributed: number;
}

export function lettersFinding({ open, accepted, unattributed }: LetterCounts): Finding {
  const more = accepted > 0 ? `, ${accepted} accepted` : '';
  if (open > 0) return fail('dead letters', `${open} open${more}`, 'dify-es dlq redrive, or dlq accept --why for those that stay out.');
  if (unattributed > 0) return warn('dead letters', `none of this tenant${more}; ${unattributed} open ones name no row and may be anybody's`, 'Look at them with dify-es dlq list.');
  return ok('dead letters', `none open${more}`);
}

export function validationFinding(verdict: ValidationVerdict | null, counts: { readonly rows: number; readonly documents: number; readonly differences: number }, tenantId: string): Finding {
  const cure = `dify-es validate --tenant-id ${tenantId} --full shows them; --repair sends rows again.`;
  if (verdict === null) return fail('validation', 'not looked at, since the path is not drained', 'Cure the findings above first.');
  if (verdict === 'equal' && counts.rows + counts.documents === 0) return fail('validation', 'no row and no document of this tenant anywhere', 'Is the id right? A tenant without workflow runs needs no switch.');
  if (verdict === 'different') return fail('validation', `${counts.differences} differences among ${counts.rows} rows and ${counts.documents} documents`, cure);
  if (verdict === 'unsettled') return fail('validation', 'rows kept changing, or the path did not drain', 'Try again in a quieter moment, or with --wait.');
  return ok('validation', `${counts.rows} rows and ${counts.documents} documents are equal`);
}

export function mappingFinding(wrong: readonly string[], templates: ReadonlyMap<string, TemplateState>): Finding {
  const notCurrent = [...templates].filter(([, state]) => state !== 'current').map(([name]) => name);
  if (wrong.length > 0) return fail('mapping', `${wrong.slice(0, 3).join(', ')}${wrong.length > 3 ? ` and ${wrong.length - 3} more` : ''}: made without our template`, 'Copy them into indices made with it (a replay into an empty cluster, or delete them and run migrate for the tenant).');
  if (notCurrent.length > 0) return fail('mapping', `${notCurrent.join(', ')} is missing or not as configured`, 'Run dify-es setup, or restart a sink.');
  return ok('mapping', 'as configured');
}

export interface ShardRoom {
  readonly used: number;
  readonly limit: number;
  /** An upper bound for the next month of all tenants: whoever runs no workflow in it makes no index. */
  readonly needed: number;
  readonly tenants: number;
}

export function shardsFinding({ used, limit, needed, tenants }: ShardRoom): Finding {
  const message = `${used} of ${limit} in use, up to ${needed} more for the next month of all ${tenants} tenants`;
  return limit - used < needed ? fail('shards', message, 'Raise cluster.max_shards_per_node or add nodes: Dify could not make the indices of the next month.') : ok('shards', message);
}

/**
 * `slow`: indices of current and coming months above 1 s. `comingSlow`: names that would be made with a longer one.
 * `relaxed`: of any month, with what a backfill spared them.
 */
export function refreshFinding(slow: readonly string[], comingSlow: readonly string[], relaxed: readonly string[]): Finding {
  if (relaxed.length > 0) return fail('refresh interval', `${relaxed.length} indices are still relaxed for a backfill (${relaxed[0]})`, 'Start a sink: it puts them back within moments once no backfill reads.');
  if (slow.length + comingSlow.length === 0) return ok('refresh interval', '1s or less for current and coming months');
  const what = [slow.length > 0 ? `${slow.length} indices` : '', comingSlow.length > 0 ? `indices to come (${comingSlow[0]})` : ''].filter(Boolean).join(' and ');
  return fail('refresh interval', `${what} above 1s: each save of Dify would wait for so long`, 'Run cutover with --prepare.');
}

/** `500ms`, `1s`: at most a second. `-1` and everything else is longer. */
export function isQuickRefresh(interval: string | undefined): boolean {
  const match = /^(\d+)(ms|s)$/.exec(interval ?? '1s');
  return match !== null && Number(match[1]) > 0 && Number(match[1]) * (match[2] === 's' ? 1000 : 1) <= 1000;
}

export function isReady(findings: readonly Finding[]): boolean {
  return findings.every(({ level }) => level !== 'fail');
}
