import { TABLES, type TableName } from '../../core/contracts.ts';
import {
  stateKeys, type ArchivedRecord, type BackfillRequired, type BackfillRun, type CleanupRun, type ControlLog, type EpochRecord, type RetentionRecord,
  type SegmentProgress, type SwitchedRecord, type TruncateRecord,
} from '../../core/state.ts';
import { allRequired, allRuns } from '../../pipeline/backfill/run-record.ts';
import { segmentsOf } from '../../pipeline/backfill/ranges.ts';

/** What the control topic remembers, as far as an operator asks for it. */
export interface RecordedState {
  readonly epoch: EpochRecord | null;
  readonly required: readonly BackfillRequired[];
  /** Open ones first, then the newest. */
  readonly runs: readonly RunStatus[];
  /** TRUNCATEs that were ignored: what they emptied is still in Elasticsearch. */
  readonly truncatesIgnored: readonly TruncateRecord[];
  readonly switched: readonly SwitchedRecord[];
  readonly retention: readonly RetentionRecord[];
  readonly archived: readonly ArchivedRecord[];
  readonly cleanups: readonly CleanupRun[];
}

export interface RunStatus {
  readonly runId: string;
  readonly state: BackfillRun['state'];
  readonly filter: BackfillRun['filter'];
  readonly startedAt: string;
  readonly endedAt: string | null;
  readonly tables: readonly { readonly table: TableName; readonly rows: number; readonly bytes: number; /** 0 to 1, by pages. */ readonly share: number; readonly pages: number }[];
}

const RUNS_SHOWN = 5;

/** Pure but for the view it is given. `tenantId` narrows what belongs to tenants. */
export function readRecorded(control: Pick<ControlLog, 'get' | 'entries'>, tenantId: string | null): RecordedState {
  const values = <T>(prefix: string): T[] => control.entries<T>(prefix).map(([, value]) => value);
  const ofTenant = <T extends { readonly tenantId: string }>(records: readonly T[]): T[] => records.filter((record) => tenantId === null || record.tenantId === tenantId);
  const runs = [...allRuns(control)].sort((a, b) => Number(b.state === 'open') - Number(a.state === 'open') || (a.startedAt < b.startedAt ? 1 : -1));
  return {
    epoch: control.get<EpochRecord>(stateKeys.epoch) ?? null,
    required: allRequired(control),
    runs: runs.slice(0, Math.max(RUNS_SHOWN, runs.filter(({ state }) => state === 'open').length)).map((run) => runStatus(control, run)),
    truncatesIgnored: values<TruncateRecord>('truncate/').filter(({ applied }) => !applied),
    switched: ofTenant(values<SwitchedRecord>('tenant/switched/')),
    retention: ofTenant(values<RetentionRecord>('tenant/retention/')),
    archived: ofTenant(values<ArchivedRecord>('tenant/archived/')),
    cleanups: ofTenant(values<CleanupRun>(stateKeys.cleanup(''))).filter(({ state }) => state === 'open'),
  };
}

function runStatus(control: Pick<ControlLog, 'get'>, run: BackfillRun): RunStatus {
  const tables = TABLES.flatMap((table) => {
    const plan = run.tables[table];
    if (!plan) return [];
    let [rows, bytes, read] = [0, 0, 0];
    for (const { index, from, to } of segmentsOf(plan)) {
      const progress = control.get<SegmentProgress>(stateKeys.segment(run.runId, table, plan.scan, index));
      if (!progress) continue;
      rows += progress.rows;
      bytes += progress.bytes;
      read += progress.done ? to - from : progress.nextBlock - from;
    }
    return [{ table, rows, bytes, share: run.state === 'done' || plan.blocks === 0 ? 1 : read / plan.blocks, pages: plan.blocks }];
  });
  const { runId, state, filter, startedAt, endedAt } = run;
  return { runId, state, filter, startedAt, endedAt, tables };
}
