import { expect, test } from 'vitest';
import { RunMaker } from './generator.ts';
import { deleteSteps, stepsOfRun } from './live-run.ts';
import { Random } from './random.ts';
import type { DifyTable } from './schema.ts';

const maker = new RunMaker({ seed: 1, tenants: 1 });
const bundle = maker.bundle(0, Date.UTC(2026, 7, 1));
const columns = new Map<DifyTable, readonly string[]>([
  ['workflow_runs', Object.keys(bundle.run).filter((name) => name !== 'sequence_number')], ['workflow_app_logs', Object.keys(bundle.appLog)],
  ['workflow_node_executions', Object.keys(bundle.nodes[0] ?? {})], ['workflow_node_execution_offload', ['id', 'created_at', 'tenant_id', 'app_id', 'node_execution_id', 'type', 'file_id']],
]);

test('a run of N nodes is 3N + 3 transactions in the order in which Dify writes them', () => {
  const kinds = [...stepsOfRun(bundle, columns, new Random(1), { offload: 0, pause: 0 })].map(({ kind }) => kind);
  expect(kinds).toEqual(['run-start', 'app-log', ...bundle.nodes.flatMap(() => ['node-start', 'node-end', 'node-reorder']), 'run-end']);
});

test('the end of a run names neither graph nor inputs, so that both arrive as unchanged TOAST', () => {
  const end = [...stepsOfRun(bundle, columns, new Random(1), { offload: 0, pause: 1 })].filter(({ kind }) => kind.startsWith('run-') && kind !== 'run-start');
  expect(end.map(({ kind }) => kind)).toEqual(['run-pause', 'run-resume', 'run-end']);
  for (const { statements } of end) for (const { text } of statements) expect(text).not.toMatch(/"graph"|"inputs"/);
});

test('the second save of a node holds the same JSON in another order of keys', () => {
  const saves = [...stepsOfRun(bundle, columns, new Random(1), { offload: 0, pause: 0 })].filter(({ kind }) => kind === 'node-end' || kind === 'node-reorder');
  const outputs = saves.map(({ statements }) => statements[0]?.values[3] ?? '');
  expect(JSON.parse(outputs[3] ?? '')).toEqual(JSON.parse(outputs[2] ?? ''));
  expect(outputs[3]).not.toBe(outputs[2]);
});

test('an offload is one transaction with the shortened payload, and steps on a missing table are left out', () => {
  const offloads = [...stepsOfRun(bundle, columns, new Random(1), { offload: 1, pause: 0 })].filter(({ kind }) => kind === 'node-offload');
  expect(offloads).toHaveLength(5);
  expect(offloads[0]?.statements).toHaveLength(2);
  const older = new Map([...columns].filter(([table]) => table !== 'workflow_node_execution_offload'));
  expect([...stepsOfRun(bundle, older, new Random(1), { offload: 1, pause: 0 })].filter(({ kind }) => kind === 'node-offload')).toEqual([]);
});

test('a clean-up deletes nodes and runs in one batch each and logs one by one', () => {
  expect([...deleteSteps([bundle, bundle])].map(({ statements }) => statements[0]?.values.length)).toEqual([10, 2, 1, 1]);
});
