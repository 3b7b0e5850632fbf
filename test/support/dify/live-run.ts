import { insertStatement, quote, type TextRow } from './copy.ts';
import type { RunBundle } from './generator.ts';
import { pythonDumps, type PythonJson } from './python-json.ts';
import type { Random } from './random.ts';
import type { DifyTable } from './schema.ts';

export interface Statement {
  readonly text: string;
  readonly values: readonly (string | null)[];
}

/** What Dify does in one transaction. */
export interface Step {
  readonly kind: StepKind;
  readonly statements: readonly Statement[];
}

export const STEP_KINDS = ['run-start', 'app-log', 'node-start', 'node-end', 'node-reorder', 'node-offload', 'offload-replace', 'run-pause', 'run-resume', 'run-end', 'delete'] as const;
export type StepKind = (typeof STEP_KINDS)[number];

export interface RunHabits {
  /** Shares from 0 to 1 of the nodes whose payload is offloaded, and of the runs that are paused and resumed. */
  readonly offload: number;
  readonly pause: number;
}

type Columns = ReadonlyMap<DifyTable, readonly string[]>;

const PAYLOADS = ['inputs', 'process_data', 'outputs', 'execution_metadata'] as const;
const RUN_END = ['status', 'outputs', 'error', 'elapsed_time', 'total_tokens', 'total_steps', 'finished_at', 'exceptions_count'] as const;
const NODE_END = ['status', 'error', 'elapsed_time', 'finished_at'] as const;

/**
 * One run as Dify writes it, a step for each of its transactions: about 3 N + 3 for N nodes.
 *
 * The updates name only what Dify's session marks as changed, so graph and inputs of a run that ends arrive in the log
 * as unchanged TOAST. A node's payloads are written twice: in full, then in another key order or cut short with an
 * offload row. `columns` are those of this database; steps on a table that it lacks are left out.
 */
export function* stepsOfRun({ run, appLog, nodes }: RunBundle, columns: Columns, random: Random, habits: RunHabits): Generator<Step> {
  const started = { ...run, status: 'running', outputs: '{}', error: null, elapsed_time: '0', total_tokens: '0', total_steps: '0', finished_at: null, exceptions_count: '0' };
  yield step('run-start', insert('workflow_runs', started, columns));
  yield step('app-log', insert('workflow_app_logs', appLog, columns));
  for (const node of nodes) {
    const empty = { ...node, inputs: null, process_data: null, outputs: null, execution_metadata: '{"iteration_id": null, "loop_id": null}', status: 'running', error: null, elapsed_time: '0', finished_at: null };
    yield step('node-start', insert('workflow_node_executions', empty, columns));
    yield step('node-end', update('workflow_node_executions', node, [...PAYLOADS, ...NODE_END]));
    const offloads = columns.has('workflow_node_execution_offload') && random.chance(habits.offload);
    if (!offloads) yield step('node-reorder', update('workflow_node_executions', reordered(node), PAYLOADS));
    else yield* offloadSteps(node, columns, random);
  }
  if (random.chance(habits.pause)) {
    yield step('run-pause', update('workflow_runs', { ...run, status: 'paused' }, RUN_END));
    yield step('run-resume', update('workflow_runs', { ...started, status: 'running' }, ['status', 'finished_at']));
  }
  yield step('run-end', update('workflow_runs', run, RUN_END));
}

function* offloadSteps(node: TextRow, columns: Columns, random: Random): Generator<Step> {
  const row = (): TextRow => ({ id: random.uuid(), created_at: node['finished_at'] ?? null, tenant_id: node['tenant_id'] ?? null, app_id: node['app_id'] ?? null, node_execution_id: node['id'] ?? null, type: 'outputs', file_id: random.uuid() });
  const first = row();
  yield step('node-offload', update('workflow_node_executions', truncated(node), ['outputs']), insert('workflow_node_execution_offload', first, columns));
  if (!random.chance(0.3)) return;
  yield step('offload-replace', update('workflow_node_execution_offload', { ...first, node_execution_id: null }, ['node_execution_id']), insert('workflow_node_execution_offload', row(), columns));
}

/** Dify's clean-up: runs and node executions in batches by id, app logs one by one, nothing cascaded. */
export function* deleteSteps(bundles: readonly RunBundle[]): Generator<Step> {
  yield step('delete', remove('workflow_node_executions', bundles.flatMap(({ nodes }) => nodes.map(idOf))));
  yield step('delete', remove('workflow_runs', bundles.map(({ run }) => idOf(run))));
  for (const { appLog } of bundles) yield step('delete', remove('workflow_app_logs', [idOf(appLog)]));
}

function step(kind: StepKind, ...statements: Statement[]): Step {
  return { kind, statements };
}

function insert(table: DifyTable, row: TextRow, columns: Columns): Statement {
  return insertStatement(table, row, columns.get(table));
}

function update(table: DifyTable, row: TextRow, columns: readonly string[]): Statement {
  return {
    text: `UPDATE public.${table} SET ${columns.map((column, i) => `${quote(column)} = $${i + 2}`).join(', ')} WHERE id = $1`,
    values: [idOf(row), ...columns.map((column) => row[column] ?? null)],
  };
}

function remove(table: DifyTable, ids: readonly string[]): Statement {
  return { text: `DELETE FROM public.${table} WHERE id IN (${ids.map((_, i) => `$${i + 1}`).join(', ')})`, values: ids };
}

function idOf(row: TextRow): string {
  const id = row['id'];
  if (typeof id !== 'string') throw new TypeError('a row without id');
  return id;
}

/** The same payloads with the keys of their objects turned round: what the second save of a node looks like. */
function reordered(node: TextRow): TextRow {
  const changed = PAYLOADS.map((column) => [column, node[column] ? turned(node[column]) : null]);
  return { ...node, ...(Object.fromEntries(changed) as TextRow) };
}

function turned(text: string): string {
  const value = JSON.parse(text) as PythonJson;
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return text;
  return pythonDumps(Object.fromEntries(Object.entries(value as { [key: string]: PythonJson }).reverse()));
}

function truncated(node: TextRow): TextRow {
  return { ...node, outputs: pythonDumps({ text: `${(node['outputs'] ?? '').slice(0, 200)}...`, truncated: true }) };
}
