import type pg from 'pg';
import { copyRows, type TextRow } from './copy.ts';
import { graphText, nodeId, nodePayload, nodeTitle, nodeTypesOfRun, runInputs, runOutputs, type NodePayload, type NodeType, type PayloadContext } from './payloads.ts';
import { Random } from './random.ts';
import { columnsOf, DIFY_TABLES, type DifyTable } from './schema.ts';
import { Prose } from './words.ts';

export interface DatasetOptions {
  /** The same seed and options give the same rows, byte for byte. */
  readonly seed: number;
  readonly tenants: number;
  readonly runs: number;
  /** Default 5: start, llm, knowledge-retrieval, code, end. */
  readonly nodesPerRun?: number;
  /** `YYYY-MM`, UTC. Runs are spread evenly over them and end inside their month. */
  readonly months: readonly string[];
  /** Average bytes of text per row over all tables with 5 nodes a run; default 4,500, at least about 1,800. It scales the texts inside the payloads. */
  readonly rowSize?: number;
  /** These tenants instead of ones drawn from the seed: a second data set or a writer beside the first. */
  readonly tenantIds?: readonly string[];
  /** Share of node executions with an offload row; default 0.02. */
  readonly offloadShare?: number;
}

/** A run with all that Dify writes about it, as the server's text. */
export interface RunBundle {
  readonly run: TextRow;
  readonly appLog: TextRow;
  readonly nodes: readonly TextRow[];
  readonly offload: readonly TextRow[];
}

export interface DatasetCounts {
  readonly rows: Readonly<Record<DifyTable, number>>;
  readonly totalRows: number;
  /** Characters of all values, which are bytes as far as they are ASCII (JSON is; titles and errors mostly). */
  readonly textBytes: number;
  readonly tenants: readonly string[];
  readonly months: readonly string[];
}

const NATURAL_ROW_SIZE = 4500;
/** What ids, keys and fixed parts take of an average row, whatever the texts are. */
const FIXED_ROW_SIZE = 1760;
const RUNS_PER_BATCH = 500;

function factorFor(rowSize: number): number {
  return Math.max(0.02, (rowSize - FIXED_ROW_SIZE) / (NATURAL_ROW_SIZE - FIXED_ROW_SIZE));
}

/** The `YYYY-MM` of `count` months, the last of them being `end`. */
export function monthsUntil(end: string, count: number): string[] {
  const last = monthStart(end);
  return Array.from({ length: count }, (_, i) => new Date(Date.UTC(last.getUTCFullYear(), last.getUTCMonth() - (count - 1 - i), 1)).toISOString().slice(0, 7));
}

/** One tenant's app with a workflow: what stays the same from run to run. */
interface Workflow {
  readonly tenant: string;
  readonly app: string;
  readonly workflow: string;
  readonly chat: boolean;
  readonly author: string;
  readonly types: readonly NodeType[];
  readonly graph: string;
}

/** Makes the rows of one run after another. Draws from its own stock, so two with one seed give the same. */
export class RunMaker {
  readonly tenants: readonly string[];
  private readonly context: PayloadContext;
  private readonly workflows: readonly Workflow[];
  private readonly offloadShare: number;

  constructor(options: Pick<DatasetOptions, 'seed' | 'tenants' | 'nodesPerRun' | 'rowSize' | 'offloadShare' | 'tenantIds'>) {
    const random = new Random(options.seed);
    this.context = { random, prose: new Prose(random.fork()), factor: factorFor(options.rowSize ?? NATURAL_ROW_SIZE) };
    this.tenants = options.tenantIds ?? Array.from({ length: options.tenants }, () => random.uuid());
    this.offloadShare = options.offloadShare ?? 0.02;
    const types = nodeTypesOfRun(options.nodesPerRun ?? 5);
    this.workflows = this.tenants.flatMap((tenant) => Array.from({ length: 6 }, (_, i) => this.workflow(tenant, types, i % 3 === 2)));
  }

  private workflow(tenant: string, types: readonly NodeType[], chat: boolean): Workflow {
    const { random } = this.context;
    return { tenant, app: random.uuid(), workflow: random.uuid(), chat, author: random.uuid(), types, graph: graphText(this.context, graphTypes(types)) };
  }

  /** A run of the given tenant (by number, wrapping around) that starts at this time and has ended. */
  bundle(tenantNumber: number, startMs: number): RunBundle {
    const { random } = this.context;
    const perTenant = this.workflows.length / this.tenants.length;
    const flow = this.workflows[(tenantNumber % this.tenants.length) * perTenant + random.int(0, perTenant - 1)] as Workflow;
    const id = random.uuid();
    const clock = new Clock(random, startMs);
    const createdAt = clock.now();
    const failed = random.chance(0.06);
    const inputs = runInputs(this.context, { app: flow.app, workflow: flow.workflow, run: id, chat: flow.chat, timestamp: Math.floor(startMs / 1000) });
    const payloads = flow.types.map((type) => nodePayload(this.context, type, inputs));
    const nodes = flow.types.map((type, i) => this.node(flow, id, type, i, payloads[i] as NodePayload, clock, failed && i === flow.types.length - 1));
    const role = random.pick(['account', 'end_user']);
    const by = random.chance(0.3) ? flow.author : random.uuid();
    const run: TextRow = {
      id, tenant_id: flow.tenant, app_id: flow.app, sequence_number: String(random.int(1, 100_000)), workflow_id: flow.workflow, type: flow.chat ? 'chat' : 'workflow',
      triggered_from: random.pick(['app-run', 'app-run', 'debugging', 'webhook', 'schedule']), version: random.pick(['draft', '2026-02-11 09:14:55.018332']), graph: flow.graph, inputs,
      status: failed ? 'failed' : random.pick(['succeeded', 'succeeded', 'succeeded', 'partial-succeeded', 'stopped']), outputs: failed ? '{}' : runOutputs(this.context, flow.chat),
      error: failed ? this.context.prose.text(random, random.pick([60, 400, 4000])) : null, elapsed_time: clock.elapsed(), total_tokens: String(payloads.reduce((sum, { tokens }) => sum + tokens, 0)),
      total_steps: String(nodes.length), created_by_role: role, created_by: by, created_at: createdAt, finished_at: clock.now(), exceptions_count: random.chance(0.05) ? '1' : '0',
    };
    const appLog: TextRow = {
      id: random.uuid(), tenant_id: flow.tenant, app_id: flow.app, workflow_id: flow.workflow, workflow_run_id: id, created_from: random.pick(['service-api', 'web-app', 'installed-app']),
      created_by_role: role, created_by: by, created_at: createdAt.slice(0, 19),
    };
    return { run, appLog, nodes, offload: nodes.filter(() => random.chance(this.offloadShare)).map((node) => this.offload(node)) };
  }

  private node(flow: Workflow, runId: string, type: NodeType, index: number, payload: NodePayload, clock: Clock, failed: boolean): TextRow {
    const { random, prose } = this.context;
    const createdAt = clock.now();
    const elapsed = clock.advance(failed ? 200 : 4000);
    return {
      id: random.uuid(), tenant_id: flow.tenant, app_id: flow.app, workflow_id: flow.workflow, triggered_from: 'workflow-run', workflow_run_id: runId, index: String(index + 1),
      predecessor_node_id: index === 0 ? null : nodeId(index - 1), node_id: nodeId(index), node_type: type, title: random.chance(0.1) ? `${nodeTitle(type)} — ${prose.title(random)} 节点` : nodeTitle(type),
      inputs: payload.inputs, process_data: payload.processData, outputs: failed ? null : payload.outputs, status: failed ? 'failed' : 'succeeded',
      error: failed ? prose.text(random, 120) : null, elapsed_time: elapsed, execution_metadata: payload.metadata, created_at: createdAt, created_by_role: 'end_user', created_by: flow.author,
      finished_at: clock.now(), node_execution_id: random.uuid(), agent_workspace_binding_id: random.chance(0.05) ? random.uuid() : null,
    };
  }

  /** An offload row for a node execution: its file holds the full payload, the row only says where. */
  offload(node: TextRow): TextRow {
    const { random } = this.context;
    const nodeExecution = random.chance(0.9) ? (node['id'] ?? null) : null;
    return {
      id: random.uuid(), created_at: node['finished_at'] ?? node['created_at'] ?? null, tenant_id: node['tenant_id'] ?? null, app_id: node['app_id'] ?? null, node_execution_id: nodeExecution,
      type: random.pick(['inputs', 'process_data', 'outputs']), file_id: random.uuid(),
    };
  }
}

/** Graphs are of real workflows, which have more nodes than a run passes: at least five, so that the size fits. */
function graphTypes(types: readonly NodeType[]): readonly NodeType[] {
  return types.length >= 5 ? types : nodeTypesOfRun(5);
}

/** The time inside a run: microseconds, as Dify's Python writes them, trailing zeros and whole seconds included. */
class Clock {
  private readonly random: Random;
  private readonly startMs: number;
  private microseconds: number;

  constructor(random: Random, startMs: number) {
    this.random = random;
    this.startMs = Math.floor(startMs);
    this.microseconds = random.chance(0.02) ? 0 : random.chance(0.05) ? random.int(1, 9) * 100_000 : random.int(1, 999_999);
  }

  now(): string {
    const ms = this.startMs - (this.startMs % 1000) + Math.floor(this.microseconds / 1000);
    return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')}.${String(this.microseconds % 1_000_000).padStart(6, '0')}`;
  }

  /** Moves on by up to this many milliseconds and returns the seconds as Python prints a float. */
  advance(maxMs: number): string {
    const step = this.random.int(1000, maxMs * 1000);
    this.microseconds += step;
    return String(step / 1e6);
  }

  elapsed(): string {
    return String(this.microseconds / 1e6);
  }
}

/** All runs of a data set, one after another; the rows of a run belong together. */
export function* runsOf(options: DatasetOptions, maker: RunMaker = new RunMaker(options)): Generator<RunBundle> {
  const random = new Random(options.seed ^ 0x5eed);
  for (let i = 0; i < options.runs; i++) {
    const month = monthStart(options.months[i % options.months.length] ?? '').getTime();
    const next = monthStart(monthsAfter(month)).getTime();
    yield maker.bundle(Math.floor(i / options.months.length), month + Math.floor(random.float() * (next - month - 3_600_000)));
  }
}

/**
 * Loads a data set by COPY into the tables that exist here, each table with the columns that it has. Returns what was
 * loaded. Each batch of 500 runs and table commits alone, unless the caller has a transaction open. With several
 * connections the batches are spread over them, which is faster (the server compresses in one process for each).
 */
export async function loadDataset(client: pg.ClientBase | readonly pg.ClientBase[], options: DatasetOptions, onProgress: (rows: number) => void = () => {}): Promise<DatasetCounts> {
  const clients = Array.isArray(client) ? (client as readonly pg.ClientBase[]) : [client as pg.ClientBase];
  const columns = await columnsOf(clients[0] as pg.ClientBase);
  const maker = new RunMaker(options);
  const rows: Record<DifyTable, number> = { workflow_runs: 0, workflow_app_logs: 0, workflow_node_executions: 0, workflow_node_execution_offload: 0 };
  const sum = { totalRows: 0, textBytes: 0 };
  const bundles = runsOf(options, maker);
  await Promise.all(clients.map(async (connection) => {
    for (let batch = take(bundles, RUNS_PER_BATCH); batch.length > 0; batch = take(bundles, RUNS_PER_BATCH)) {
      for (const table of DIFY_TABLES) {
        const present = columns.get(table);
        const tableRows = present ? rowsOf(batch, table) : [];
        const used = present?.filter((column) => column in (tableRows[0] ?? {})) ?? [];
        if (tableRows.length === 0) continue;
        const count = await copyRows(connection, table, used, tableRows);
        for (const row of tableRows) for (const column of used) sum.textBytes += row[column]?.length ?? 0;
        rows[table] += count;
        sum.totalRows += count;
      }
      onProgress(sum.totalRows);
    }
  }));
  return { rows, ...sum, tenants: maker.tenants, months: options.months };
}

function take<T>(items: Iterator<T>, count: number): T[] {
  const taken: T[] = [];
  while (taken.length < count) {
    const next = items.next();
    if (next.done) break;
    taken.push(next.value);
  }
  return taken;
}

function rowsOf(batch: readonly RunBundle[], table: DifyTable): readonly TextRow[] {
  switch (table) {
    case 'workflow_runs': return batch.map(({ run }) => run);
    case 'workflow_app_logs': return batch.map(({ appLog }) => appLog);
    case 'workflow_node_executions': return batch.flatMap(({ nodes }) => nodes);
    case 'workflow_node_execution_offload': return batch.flatMap(({ offload }) => offload);
    default: return table satisfies never;
  }
}

function monthStart(month: string): Date {
  if (!/^\d{4}-(0[1-9]|1[0-2])$/.test(month)) throw new RangeError(`not a month (YYYY-MM): ${JSON.stringify(month)}`);
  return new Date(`${month}-01T00:00:00Z`);
}

function monthsAfter(startMs: number): string {
  const start = new Date(startMs);
  return new Date(Date.UTC(start.getUTCFullYear(), start.getUTCMonth() + 1, 1)).toISOString().slice(0, 7);
}
