import type { Logger } from 'pino';
import type pg from 'pg';
import type { TableName } from '../../core/contracts.ts';
import type { BackfillFilter, ControlLog } from '../../core/state.ts';
import type { Blocker } from './barrier.ts';
import type { Writers } from './give-up.ts';
import type { SourceIdentity } from './run-record.ts';
import type { TableProgress } from './table-scan.ts';

export interface BackfillOptions {
  /** A connected client with the pinned session settings: key bytes depend on them. */
  readonly connect: () => Promise<pg.Client>;
  readonly writers: Writers;
  readonly control: ControlLog;
  /** The epoch and the slot of the stream, which must exist: only then is what a read does not see on the stream. */
  readonly source: SourceIdentity;
  readonly schema: string;
  readonly filter: BackfillFilter;
  readonly workers: number;
  /** Rows of a chunk, about. */
  readonly batchRows: number;
  /** Rows a second over all workers of this process; 0: no limit. */
  readonly rowsPerSecond: number;
  readonly deletePolicy: 'apply' | 'ignore';
  readonly barrierTimeoutMs: number;
  /** How long a chunk that fails again and again is repeated before the run stops. */
  readonly retryForMs: number;
  /** How long another process of the run may stand still before its ranges are taken over. */
  readonly silentMs: number;
  /** Stops after the chunks in progress, within 10 s. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** Waits as long as the source must be spared. Called before each chunk. */
  readonly mayProceed?: () => Promise<void>;
  /** What all processes of the run have read of a table. */
  readonly onProgress?: (progress: TableProgress) => void;
  readonly onBlocked?: (blockers: readonly Blocker[]) => void;
}

export interface BackfillResult {
  readonly state: 'done' | 'stopped';
  readonly runId: string;
  /** The run was open already: begun earlier, or by another process. */
  readonly resumed: boolean;
  readonly barrierLsn: string;
  /** What all processes have read. */
  readonly tables: readonly TableProgress[];
  /** What this process has read of it. */
  readonly ownRows: number;
  /** Tables of the filter that this Dify release does not have. */
  readonly missing: readonly TableName[];
  /** Tables for which BACKFILL REQUIRED is still recorded. */
  readonly stillRequired: readonly TableName[];
}
