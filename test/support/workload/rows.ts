import type { TextRow } from '../dify/copy.ts';
import { hostileJson, hostileTexts } from '../dify/edge-cases.ts';
import type { Random } from '../dify/random.ts';
import type { DifyTable } from '../dify/schema.ts';

/** Where the rows of a workload live: few tenants and months, so that moves and hot indices are common. */
export interface World {
  readonly tenants: readonly string[];
  /** `YYYY-MM`. */
  readonly months: readonly string[];
}

const HOSTILE_JSON = Object.entries(hostileJson(50_000)).filter(([name, text]) => text.length < 300_000 && !name.startsWith('depth 100,000')).map(([, text]) => text);
const HOSTILE_TEXT = Object.values(hostileTexts()).map((text) => text.slice(0, 120));

/** JSON that PostgreSQL keeps out of line: it does not compress, and it is above the 2 kB from which rows are toasted. */
export function toastedJson(random: Random, bytes = random.int(3000, 9000)): string {
  let noise = '';
  while (noise.length < bytes) noise += random.bits().toString(36);
  return `{"nodes": [{"id": ${random.int(1, 99)}}], "noise": "${noise}"}`;
}

function anyJson(random: Random): string | null {
  if (random.chance(0.08)) return random.pick(HOSTILE_JSON);
  if (random.chance(0.1)) return null;
  return random.chance(0.3) ? toastedJson(random) : `{"answer": "text ${random.int(1, 1e6)}", "n": ${random.bits()}${random.bits()}}`;
}

export function hostileColumn(random: Random): string {
  return random.pick(HOSTILE_JSON);
}

/** A time inside a month, with all sorts of fractions. */
export function anyTime(random: Random, month: string): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const fraction = random.pick(['', '.5', '.120000', '.000001', '.999999', `.${String(random.int(0, 999_999)).padStart(6, '0')}`]);
  return `${month}-${two(random.int(1, 28))} ${two(random.int(0, 23))}:${two(random.int(0, 59))}:${two(random.int(0, 59))}${fraction}`;
}

export function makeRow(table: DifyTable, id: string, random: Random, world: World): TextRow {
  const base = { id, tenant_id: random.pick(world.tenants), app_id: random.uuid(), created_at: anyTime(random, random.pick(world.months)) };
  const flow = { workflow_id: random.uuid(), created_by_role: random.pick(['account', 'end_user']), created_by: random.uuid() };
  switch (table) {
    case 'workflow_runs': return {
      ...base, ...flow, sequence_number: '1', type: 'workflow', triggered_from: 'app-run', version: 'draft', graph: toastedJson(random), inputs: random.chance(0.5) ? toastedJson(random) : anyJson(random), outputs: anyJson(random), ...runChanges(random),
    };
    case 'workflow_app_logs': return { ...base, ...flow, workflow_run_id: random.uuid(), created_from: random.pick(['web-app', 'service-api', random.pick(HOSTILE_TEXT)]) };
    case 'workflow_node_executions': return {
      ...base, ...flow, triggered_from: 'workflow-run', workflow_run_id: random.chance(0.9) ? random.uuid() : null, index: String(random.int(1, 99)), predecessor_node_id: null, node_id: String(random.int(1, 9)), node_type: 'llm',
      title: random.chance(0.1) ? random.pick(HOSTILE_TEXT) : 'LLM', inputs: anyJson(random), process_data: toastedJson(random), outputs: anyJson(random), execution_metadata: anyJson(random), node_execution_id: random.uuid(), ...nodeChanges(random),
    };
    case 'workflow_node_execution_offload': return { ...base, node_execution_id: random.chance(0.9) ? random.uuid() : null, type: random.pick(['inputs', 'outputs', 'process_data']), file_id: random.uuid() };
    default: return table satisfies never;
  }
}

function runChanges(random: Random): TextRow {
  return {
    status: random.pick(['running', 'succeeded', 'failed', 'stopped', 'paused']), error: random.chance(0.2) ? random.pick(HOSTILE_TEXT) : null, elapsed_time: random.pick([String(random.float() * 100), '0', 'NaN', '1e-07']),
    total_tokens: `${random.bits()}${random.int(100_000, 999_999)}`, total_steps: random.chance(0.1) ? null : String(random.int(0, 99)), exceptions_count: '0', finished_at: random.chance(0.2) ? null : anyTime(random, '2026-09'),
  };
}

function nodeChanges(random: Random): TextRow {
  return { status: random.pick(['running', 'succeeded', 'exception', 'retry']), error: random.chance(0.2) ? random.pick(HOSTILE_TEXT) : null, elapsed_time: String(random.float()), finished_at: random.chance(0.2) ? null : anyTime(random, '2026-09') };
}

/** Columns of an update that leaves the large texts as they are: they arrive as unchanged TOAST. */
export function smallChanges(table: DifyTable, random: Random): TextRow {
  switch (table) {
    case 'workflow_runs': return runChanges(random);
    case 'workflow_app_logs': return { created_from: random.pick(['web-app', 'openapi', random.pick(HOSTILE_TEXT)]), created_by: random.uuid() };
    case 'workflow_node_executions': return nodeChanges(random);
    case 'workflow_node_execution_offload': return { node_execution_id: random.chance(0.5) ? random.uuid() : null, file_id: random.uuid() };
    default: return table satisfies never;
  }
}

/** Columns of an update of the payloads too. */
export function largeChanges(table: DifyTable, random: Random): TextRow {
  switch (table) {
    case 'workflow_runs': return { ...runChanges(random), outputs: anyJson(random), ...(random.chance(0.3) ? { graph: toastedJson(random) } : {}) };
    case 'workflow_node_executions': return { ...nodeChanges(random), inputs: anyJson(random), process_data: toastedJson(random), outputs: anyJson(random), execution_metadata: anyJson(random) };
    default: return smallChanges(table, random);
  }
}
