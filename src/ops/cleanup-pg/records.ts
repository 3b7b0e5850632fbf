import type { BackfillRequired, BackfillRun, CleanupRun } from '../../core/state.ts';
import type { Scope } from './candidates.ts';

/**
 * Why a clean-up must not begin, or undefined. An open backfill, a crashed one too, would take the rows that go for rows
 * that were deleted, and their documents with them. With Kafka's data lost the rows are needed to fill it again.
 */
export function refusal(runs: readonly BackfillRun[], required: readonly BackfillRequired[]): string | undefined {
  const open = runs.find(({ state }) => state === 'open');
  if (open) return `the backfill ${open.runId} of ${open.startedAt} is open`;
  const lost = required.find(({ reason, backfilledBy }) => reason === 'kafka-data-lost' && backfilledBy === undefined);
  return lost && `Kafka has lost its data, and ${lost.table} has to be read into it again first`;
}

/** The boundary only ever moves on: rows before the later of the two dates may be gone. */
export function archivedBoundary(known: string | undefined, before: string): string {
  return known !== undefined && known > before ? known : before;
}

/** The open run of the same tenant and date, which was killed or stopped: it was announced, and goes on. */
export function runToResume(runs: readonly CleanupRun[], { tenantId, before }: Scope): CleanupRun | undefined {
  return runs.find((run) => run.state === 'open' && run.tenantId === tenantId && run.before === before);
}

/** Open runs that this one, having come to its end, has done too. */
export function runsToClose(runs: readonly CleanupRun[], { tenantId, before }: Scope): CleanupRun[] {
  return runs.filter((run) => run.state === 'open' && run.tenantId === tenantId && run.before <= before);
}
