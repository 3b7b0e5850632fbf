import { describe, expect, it } from 'vitest';
import type { BackfillRequired, BackfillRun, CleanupRun } from '../../../src/core/state.ts';
import { archivedBoundary, refusal, runsToClose, runToResume } from '../../../src/ops/cleanup-pg/records.ts';

const run = (state: BackfillRun['state']): BackfillRun =>
  ({ runId: 'b', state, epoch: 1, slot: 's', barrierLsn: '0/1', filter: { tables: [], tenantIds: [], from: null, before: null }, tables: {}, startedAt: 'then', endedAt: null });
const required = (reason: BackfillRequired['reason'], more: Partial<BackfillRequired> = {}): BackfillRequired => ({ table: 'workflow_runs', reason, sinceLsn: '0/1', sinceEpoch: 1, reconcile: true, at: 'then', ...more });
const cleanup = (runId: string, tenantId: string, before: string, state: CleanupRun['state'] = 'open'): CleanupRun => ({ runId, state, tenantId, before, at: 'then' });

describe('a clean-up', () => {
  it('is refused while a backfill is open, also one whose process died, and while Kafka has to be filled again', () => {
    expect(refusal([run('done'), run('void')], [required('first-run'), required('new-epoch')])).toBeUndefined();
    expect(refusal([run('done'), run('open')], [])).toContain('open');
    expect(refusal([], [required('kafka-data-lost')])).toContain('Kafka');
    expect(refusal([], [required('kafka-data-lost', { backfilledBy: 'b' })])).toBeUndefined();
  });

  it('never moves the archived boundary back', () => {
    expect(archivedBoundary(undefined, '2026-02-01 00:00:00')).toBe('2026-02-01 00:00:00');
    expect(archivedBoundary('2026-03-01 00:00:00', '2026-02-01 00:00:00')).toBe('2026-03-01 00:00:00');
    expect(archivedBoundary('2026-01-01 00:00:00', '2026-02-01 00:00:00')).toBe('2026-02-01 00:00:00');
  });

  it('goes on under the run that was announced for its tenant and date, and closes those it has overtaken', () => {
    const runs = [cleanup('1', 'a', '2026-01-01'), cleanup('2', 'a', '2026-02-01', 'done'), cleanup('3', 'a', '2026-02-01'), cleanup('4', 'b', '2026-01-01'), cleanup('5', 'a', '2026-03-01')];
    expect(runToResume(runs, { tenantId: 'a', before: '2026-02-01' })?.runId).toBe('3');
    expect(runToResume(runs, { tenantId: 'c', before: '2026-02-01' })).toBeUndefined();
    expect(runsToClose(runs, { tenantId: 'a', before: '2026-02-01' }).map(({ runId }) => runId)).toEqual(['1', '3']);
  });
});
