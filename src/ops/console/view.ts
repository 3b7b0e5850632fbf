import type { TableName } from '../../core/contracts.ts';
import { TABLES } from '../../core/contracts.ts';
import type { ControlLog } from '../../core/state.ts';
import { allRequired, allRuns } from '../../pipeline/backfill/run-record.ts';
import type { Finding } from '../check/finding.ts';
import { backfillFinding } from '../cutover/findings.ts';
import { tenantRows, type TenantRow } from '../cutover/tenants.ts';
import type { ElasticStatus } from '../status/elastic-status.ts';
import type { GroupStatus, KafkaStatus } from '../status/kafka-status.ts';
import type { RecordedState, RunStatus } from '../status/recorded-state.ts';
import type { SourceStatus } from '../status/source-status.ts';
import { secondsLeft } from '../telemetry/note.ts';
import type { PartHealth } from '../telemetry/health.ts';
import type { Seen } from './look.ts';
import type { Rates } from './rates.ts';

/* What the page is sent: names, counts and positions. No value of a row is in any of it. */

/** Everything that moves; sent about once a second while something does. */
export interface FlowView {
  readonly installation: { readonly slot: string; readonly topicPrefix: string; readonly group: string; readonly indexPrefix: string };
  readonly source: Seen<SourceStatus>;
  readonly kafka: Seen<KafkaStatus>;
  readonly group: Seen<GroupStatus>;
  readonly elasticsearch: Seen<ElasticTotals>;
  readonly recorded: Seen<Pick<RecordedState, 'epoch' | 'required'> & { readonly runs: readonly RunView[] }>;
  readonly rates: FlowRates;
  /** The parts of this process, where the console is served by `run`. */
  readonly parts: readonly ({ readonly part: string } & PartHealth)[];
  readonly attention: readonly Finding[];
}

/** A second each; null while it is not known. */
export interface FlowRates {
  /** Bytes of the log that the reader has confirmed. */
  readonly wal: number | null;
  /** Rows read by the backfill. */
  readonly backfill: number | null;
  /** Offsets that the topics grew by: records, and a marker for each transaction and partition. */
  readonly published: number | null;
  /** Offsets that the sinks settled. */
  readonly settled: number | null;
  /** Writes and deletes in Elasticsearch, Dify's own among them. */
  readonly indexed: number | null;
}

export interface ElasticTotals extends Omit<ElasticStatus, 'indices'> {
  readonly documents: number;
  readonly bytes: number;
  readonly indices: number;
  readonly closed: number;
  readonly tables: readonly { readonly table: TableName; readonly documents: number; readonly bytes: number }[];
}

export interface RunView extends Omit<RunStatus, 'tables' | 'filter'> {
  /** Null: everything. */
  readonly only: string | null;
  /** 0 to 1, by pages. */
  readonly share: number;
  readonly rowsPerSecond: number | null;
  /** Null while it does not move. */
  readonly secondsLeft: number | null;
  readonly tables: readonly (Omit<RunStatus['tables'][number], 'pages'> & { readonly rowsPerSecond: number | null; readonly secondsLeft: number | null })[];
}

export interface TenantView extends TenantRow {
  readonly bytes: number;
  /** What stands in the way of looking at it, as far as it is known without a comparison; null: nothing. */
  readonly blocked: string | null;
}

export function elasticTotals({ indices, ...server }: ElasticStatus): ElasticTotals {
  const sum = (table: TableName | null, what: 'documents' | 'bytes'): number => indices.reduce((total, index) => total + (table === null || index.table === table ? index[what] : 0), 0);
  return {
    ...server,
    documents: sum(null, 'documents'), bytes: sum(null, 'bytes'), indices: indices.length,
    closed: indices.filter(({ status }) => status === 'close').length,
    tables: TABLES.map((table) => ({ table, documents: sum(table, 'documents'), bytes: sum(table, 'bytes') })),
  };
}

/** Names of the counters of a run: its rows and its share, whole and by table. */
export const runCounters = {
  rows: (runId: string, table: TableName | null): string => `rows/${runId}/${table ?? ''}`,
  share: (runId: string, table: TableName | null): string => `share/${runId}/${table ?? ''}`,
};

/** Of all pages of a run; a run without any is done as soon as it is recorded. */
export function shareOf({ tables, state }: Pick<RunStatus, 'tables' | 'state'>): number {
  const pages = tables.reduce((sum, table) => sum + table.pages, 0);
  if (pages === 0) return state === 'done' ? 1 : 0;
  return tables.reduce((sum, table) => sum + table.share * table.pages, 0) / pages;
}

export function runView(run: RunStatus, rates: Pick<Rates, 'perSecond'>): RunView {
  const { tables, filter, ...rest } = run;
  const left = (share: number, table: TableName | null): number | null => {
    const moved = run.state === 'open' ? rates.perSecond(runCounters.share(run.runId, table)) : null;
    return moved === null ? null : secondsLeft(1 - share, moved, 1_000);
  };
  const rows = (table: TableName | null): number | null => (run.state === 'open' ? rates.perSecond(runCounters.rows(run.runId, table)) : null);
  const share = shareOf(run);
  return {
    ...rest,
    only: onlyOf(filter), share, rowsPerSecond: rows(null), secondsLeft: left(share, null),
    tables: tables.map(({ pages: _, ...table }) => ({ ...table, rowsPerSecond: rows(table.table), secondsLeft: table.share === 1 ? 0 : left(table.share, table.table) })),
  };
}

function onlyOf({ tenantIds, from, before, tables }: RunStatus['filter']): string | null {
  const parts = [
    tenantIds.length === 1 ? `tenant ${tenantIds[0]!.slice(0, 8)}` : tenantIds.length > 1 ? `${tenantIds.length} tenants` : '',
    tables.length < TABLES.length ? `${tables.length} of ${TABLES.length} tables` : '',
    from === null ? '' : `from ${from.slice(0, 10)}`,
    before === null ? '' : `before ${before.slice(0, 10)}`,
  ].filter(Boolean);
  return parts.length === 0 ? null : parts.join(', ');
}

/** Every tenant with its readiness as `cutover` recorded it. */
export function tenantViews(control: Pick<ControlLog, 'get' | 'entries'>, indices: ElasticStatus['indices'], ofSource: ReadonlySet<string>): TenantView[] {
  const bytes = new Map<string, number>();
  for (const index of indices) bytes.set(index.tenantId, (bytes.get(index.tenantId) ?? 0) + index.bytes);
  const [runs, required] = [allRuns(control), allRequired(control)];
  return tenantRows(control, indices, ofSource).map((row) => {
    const backfill = row.state === 'open' ? backfillFinding(row.tenantId, runs, required) : null;
    return { ...row, bytes: bytes.get(row.tenantId) ?? 0, blocked: backfill?.level === 'fail' ? `backfill ${backfill.message}` : null };
  });
}
