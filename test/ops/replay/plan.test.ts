import { describe, expect, it } from 'vitest';
import type { TableName } from '../../../src/core/contracts.ts';
import { planReplay, spansOf, type PartitionState } from '../../../src/ops/replay/plan.ts';
import { progressOf, settled } from '../../../src/ops/replay/replay.ts';

const state = (table: TableName, partition: number, more: Partial<PartitionState> = {}): PartitionState => ({ table, partition, beginning: 10n, end: 100n, position: 80n, atTime: null, ...more });
const two = [state('workflow_runs', 0), state('workflow_runs', 1, { position: 10n }), state('workflow_app_logs', 0)];
const froms = (...args: Parameters<typeof planReplay>): string[] => planReplay(...args).steps.map(({ from }) => String(from));

describe('what a replay reads', () => {
  it('is all of every partition, from the beginning', () => {
    expect(froms({ kind: 'beginning' }, two)).toEqual(['10', '10', '10']);
    expect(spansOf(planReplay({ kind: 'beginning' }, two).steps)).toEqual([
      { table: 'workflow_runs', partitions: 1, again: 70n, total: 180n },
      { table: 'workflow_app_logs', partitions: 1, again: 70n, total: 90n },
    ]);
  });

  it('never begins ahead of where the sinks are, since what lies between would be lost', () => {
    expect(froms({ kind: 'time', timeMs: 0 }, [state('workflow_runs', 0, { atTime: 90n }), state('workflow_runs', 1, { atTime: 50n }), state('workflow_runs', 2)])).toEqual(['80', '50', '80']);
  });

  it('leaves a partition where it is that no offset names', () => {
    expect(froms({ kind: 'offsets', offsets: [{ table: 'workflow_app_logs', partition: 0, offset: 33n }] }, two)).toEqual(['80', '10', '33']);
    expect(froms({ kind: 'offsets', offsets: [{ table: null, partition: 1, offset: 10n }] }, two.slice(0, 2))).toEqual(['80', '10']);
  });

  it('names every wrong offset at once', () => {
    const offsets = [
      { table: null, partition: 0, offset: 10n },
      { table: 'workflow_runs' as const, partition: 9, offset: 10n },
      { table: 'workflow_runs' as const, partition: 0, offset: 9n },
      { table: 'workflow_runs' as const, partition: 0, offset: 101n },
      { table: 'workflow_runs' as const, partition: 0, offset: 90n },
      { table: 'workflow_node_executions' as const, partition: 0, offset: 0n },
      { table: 'workflow_app_logs' as const, partition: 0, offset: 20n },
      { table: 'workflow_app_logs' as const, partition: 0, offset: 30n },
    ];
    const { faults } = planReplay({ kind: 'offsets', offsets }, two);
    expect(faults.map((fault) => fault.slice(fault.indexOf(': ') + 2))).toEqual([
      'of which table? Write TABLE:PARTITION:OFFSET, or name one --table', 'workflow_runs has no partition 9', 'the partition holds the offsets 10 to 100', 'the partition holds the offsets 10 to 100',
      'the sinks are at 80, and what lies between would be skipped', 'workflow_node_executions is not among the chosen tables', 'workflow_app_logs 0 is named twice',
    ]);
  });

  it('is through by so much as the group has passed, no more and no less than the span', () => {
    const steps = planReplay({ kind: 'beginning' }, two).steps;
    const at = (...committed: (bigint | null)[]) => committed.map((value, i) => ({ ...two[i]!, committed: value }));
    expect(progressOf(steps, at(null, null, null))).toBe(0n);
    expect(progressOf(steps, at(40n, 5n, 10n))).toBe(30n);
    expect(progressOf(steps, at(500n, 100n, 100n))).toBe(270n);
  });
});

describe('a replay that is stopped', () => {
  it('leaves the rest to the sinks, and is not told to run again: that would set the group back once more', async () => {
    const stop = new AbortController();
    const lag = { isDrainedTo: () => Promise.resolve(false), lag: () => Promise.resolve([]) };
    const seen: bigint[] = [];
    const following = settled(planReplay({ kind: 'beginning' }, two).steps, lag, () => Promise.resolve(['a sink']), stop.signal, ({ total }) => {
      seen.push(total);
      stop.abort();
    });
    await expect(following).rejects.toMatchObject({ code: 'REPLAY_UNFINISHED', exitCode: 1, cure: expect.not.stringMatching(/run the same/i) as string });
    expect(seen).toEqual([270n]);
  });
});
