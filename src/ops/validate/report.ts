import type { DifyEsError } from '../../core/errors.ts';
import type { TableName } from '../../core/contracts.ts';
import type { RepairReport } from './repairer.ts';
import { APART, DIFFERENCE_CLASSES, type Apart, type Difference, type Group, type GroupCounts } from './tally.ts';
import type { Validation } from './validate.ts';

/** `unsettled`: no difference was proven, but something could not be looked at in rest. Only `equal` is a yes. */
export type ValidationVerdict = 'equal' | 'different' | 'unsettled';

/** The report as data: what `--json` prints and cutover keeps as evidence. Ids and names, never a value. */
export interface ValidationReport {
  readonly verdict: ValidationVerdict;
  readonly sample: 'full' | number;
  readonly tables: readonly TableName[];
  readonly totals: GroupCounts;
  readonly groups: readonly Group[];
  /** The first thousand; `totals` counts them all. */
  readonly differences: readonly Difference[];
  readonly apart: Readonly<Partial<Record<Apart, number>>>;
  readonly inFlight: number;
  readonly rewritten: readonly TableName[];
  readonly notDrained: { readonly code: string; readonly message: string; readonly cure: string } | null;
  readonly repair: RepairReport | null;
  readonly reconciled: readonly TableName[];
  readonly seconds: number;
}

export function reportOf(validation: Validation, more: { readonly sample: 'full' | number; readonly reconciled: readonly TableName[]; readonly seconds: number }): ValidationReport {
  const { tally, tables, rewritten, notDrained, repair } = validation;
  const totals = tally.totals();
  const apart = Object.fromEntries(APART.filter((why) => tally.apart[why] > 0).map((why) => [why, tally.apart[why]]));
  return {
    verdict: verdictOf(totals, tally.inFlight, rewritten, notDrained),
    tables, totals, groups: tally.groups(), differences: tally.differences, apart, inFlight: tally.inFlight, rewritten,
    notDrained: notDrained && { code: notDrained.code, message: notDrained.message, cure: notDrained.cure },
    repair, ...more,
  };
}

export function verdictOf(totals: GroupCounts, inFlight: number, rewritten: readonly TableName[], notDrained: DifyEsError | null): ValidationVerdict {
  if (DIFFERENCE_CLASSES.some((kind) => totals[kind] > 0)) return 'different';
  return inFlight > 0 || rewritten.length > 0 || notDrained ? 'unsettled' : 'equal';
}

const WHY: Readonly<Record<Apart, string>> = {
  switched: 'of tenants whose truth is Elasticsearch now',
  expired: 'of months that retention dropped',
  archived: 'documents whose rows cleanup-pg moved out of PostgreSQL',
  'kept-by-policy': 'documents that DELETE_POLICY or TRUNCATE_POLICY keeps',
  'dify-own': 'documents that Dify itself wrote',
  accepted: 'rows that `dlq accept` leaves out',
  'no-month': 'rows whose created_at has no month: they are dead letters',
  'bad-key': 'rows whose key names no document: they are dead letters',
};

const SHOWN = 50;
const GROUPS_SHOWN = 60;
const HEAD = ['table', 'tenant', 'month', 'rows', 'documents', 'missing', 'stale', 'extra', 'wrong index'];

export interface ReportSink {
  line(text?: string): void;
  table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void;
}

/** The report for a person. */
export function printReport(report: ValidationReport, out: ReportSink): void {
  const { groups, totals, differences, apart } = report;
  const counts = (group: GroupCounts): number[] => [group.rows, group.documents, ...DIFFERENCE_CLASSES.map((kind) => group[kind])];
  const worth = groups.length <= GROUPS_SHOWN ? groups : groups.filter((group) => DIFFERENCE_CLASSES.some((kind) => group[kind] > 0)).slice(0, GROUPS_SHOWN);
  out.table(HEAD, [
    ...worth.map((group) => [group.table, group.tenantId, group.month, ...counts(group)]),
    ...perTable(groups).map(([table, sum]) => [table, 'all', 'all', ...counts(sum)]),
  ]);
  for (const difference of differences.slice(0, SHOWN)) out.line(describeDifference(difference));
  const found = DIFFERENCE_CLASSES.reduce((sum, kind) => sum + totals[kind], 0);
  if (found > SHOWN) out.line(`… and ${found - Math.min(SHOWN, differences.length)} more (--json lists up to 1,000)`);
  if (totals.missing > 0) out.line('why one is missing: `dify-es trace TABLE ID`; dead letters that are open are in `dify-es dlq list`');
  for (const why of APART) if (apart[why]) out.line(`${apart[why]} ${WHY[why]}: not compared`);
  for (const table of report.rewritten) out.line(`${table} was rewritten or altered meanwhile: run validate again`);
  if (report.inFlight > 0) out.line(`${report.inFlight} rows kept changing and are neither equal nor different: run validate again`);
  if (report.notDrained) out.line(`not drained: ${report.notDrained.message}; what is still on its way may change what was found. ${report.notDrained.cure}`);
  if (report.repair) out.line(describeRepair(report.repair));
  if (report.verdict === 'equal' && totals.rows + totals.documents === 0 && Object.keys(apart).length === 0) out.line('NOTHING WAS COMPARED: there is no row and no document of what was asked for; is the id right?');
  for (const table of report.reconciled) out.line(`BACKFILL REQUIRED is settled for ${table}`);
  out.line(`${report.verdict}: ${totals.rows} rows and ${totals.documents} documents compared in ${report.seconds.toFixed(1)} s${report.sample === 'full' ? '' : ` (a sample of ${report.sample}; --full compares everything)`}`);
}

function describeDifference(found: Difference): string {
  const row = `${found.class}: ${found.table} ${found.id}`;
  switch (found.class) {
    case 'missing': return `${row} is not in ${found.index}`;
    case 'stale': return `${row} in ${found.index} differs in ${found.fields?.join(', ') ?? ''}`;
    case 'extra': return `${row} in ${found.index} has no row`;
    case 'wrong-index': return `${row} is in ${found.index}${found.belongsIn ? ` and belongs in ${found.belongsIn}${found.missingThere ? ', where it is missing' : ''}` : ''}`;
    default: throw new TypeError(`unknown class ${String(found.class satisfies never)}`);
  }
}

function describeRepair({ rowsPublished, tombstonesPublished, proven, leftAlone }: RepairReport): string {
  const left = leftAlone > 0 ? `; ${leftAlone} surplus documents were left alone (--delete-extra deletes them)` : '';
  return `repair: ${rowsPublished} rows sent again, ${tombstonesPublished} documents deleted, ${proven} found equal afterwards${left}`;
}

function perTable(groups: readonly Group[]): [TableName, GroupCounts][] {
  const sums = new Map<TableName, GroupCounts>();
  for (const group of groups) {
    const sum = sums.get(group.table) ?? { rows: 0, documents: 0, missing: 0, stale: 0, extra: 0, 'wrong-index': 0 };
    for (const key of Object.keys(sum) as (keyof GroupCounts)[]) sum[key] += group[key];
    sums.set(group.table, sum);
  }
  return [...sums];
}
