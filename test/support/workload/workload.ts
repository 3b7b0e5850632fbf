import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { Random } from '../dify/random.ts';
import { columnsOf, DIFY_TABLES, type DifyTable } from '../dify/schema.ts';
import { alter, type Truncation } from './alter.ts';
import { classify, Connection } from './connections.ts';
import { execute, type Surroundings } from './execute.ts';
import { HeldTransactions } from './held.ts';
import { CORE_KINDS, DDL_KINDS, isAlone, OPTIONAL_KINDS, type CoreKind, type Kind } from './kinds.ts';
import { planWorkload, type Operation, type PlanOptions } from './plan.ts';
import type { World } from './rows.ts';

export interface WorkloadOptions extends PlanOptions {
  /** Opens one connection to a database with Dify's tables; up to 3 for each lane and one for each held transaction. */
  readonly connect: () => Promise<pg.Client>;
  readonly tenants?: number;
  /** `YYYY-MM`; default three months. */
  readonly months?: readonly string[];
  /** Rows of the large transactions; default 100,000. */
  readonly largeRows?: number;
  readonly bigRowBytes?: number;
  readonly idleMs?: number;
  /** An open transaction is committed after so many operations, or after so long if they do not come; defaults 40 and 1,500 ms. */
  readonly hold?: { readonly operations: number; readonly ms: number };
  readonly operationsPerSecond?: number;
  /** How long a lost connection is tried again; default 0: the workload fails with it. For tests that kill the server. */
  readonly reconnectMs?: number;
  /** Called, and waited for, before each operation: the place to start a backfill or to kill something. */
  readonly beforeOperation?: (operation: Operation) => Promise<void> | void;
  /** Ends early after the operations under way. */
  readonly signal?: AbortSignal;
}

export interface KindCount {
  issued: number;
  done: number;
  /** Row changes, taken back ones included where that is the point of the kind. */
  rows: number;
  /** Refused by the server because of another writer: a deadlock, a row that is there already. */
  conflicts: number;
  /** The connection broke; nobody knows whether it was committed. */
  lost: number;
}

export interface WorkloadResult {
  readonly counts: Readonly<Partial<Record<Kind, KindCount>>>;
  readonly world: World;
  readonly truncations: readonly Truncation[];
}

/** Tenants and months of a seed. */
export function worldOf({ seed, tenants = 3, months = ['2026-06', '2026-07', '2026-08'] }: Pick<WorkloadOptions, 'seed' | 'tenants' | 'months'>): World {
  const random = new Random(seed ^ 0x7e4a47);
  return { tenants: Array.from({ length: tenants }, () => random.uuid()), months };
}

/**
 * Writes a seeded random workload. What it issues, in which lane and order, follows from the options alone; what two lanes
 * do to one row follows from their luck. Returns when everything is committed, held transactions too. Use a database
 * that has not seen this seed. Rejects at the first error that is no conflict, naming the operation.
 */
export async function runWorkload(options: WorkloadOptions): Promise<WorkloadResult> {
  const world = worldOf(options);
  const counts: Partial<Record<Kind, KindCount>> = {};
  const truncations: Truncation[] = [];
  const lanes = Array.from({ length: options.lanes ?? 4 }, () => new Lane(options));
  const held = new HeldTransactions(options.connect, options.hold ?? { operations: 40, ms: 1500 });
  const pace = pacer(options.operationsPerSecond);
  let columns: ReadonlyMap<DifyTable, readonly string[]> = new Map();

  const run = async (operation: Operation, lane: Lane): Promise<void> => {
    if (options.signal?.aborted) return;
    await options.beforeOperation?.(operation);
    await pace();
    const count = (counts[operation.kind] ??= { issued: 0, done: 0, rows: 0, conflicts: 0, lost: 0 });
    count.issued++;
    try {
      const { kind } = operation;
      const rows = isOptional(kind) ? await alter(await lane.client(), operation, kind, (one) => truncations.push(one)) : await execute(operation, kind, await lane.surroundings(world, columns, held));
      count.rows += rows;
      count.done++;
    } catch (error) {
      const mishap = classify(error);
      if (mishap === 'conflict') count.conflicts++;
      else if (mishap === 'lost' && options.reconnectMs) {
        count.lost++;
        await lane.close();
      } else throw new Error(`operation ${operation.number} (${operation.kind} on ${operation.table}) of seed ${options.seed} failed`, { cause: error });
    }
    await held.operationDone();
  };

  try {
    columns = await columnsOf(await (lanes[0] as Lane).client());
    const tables = options.tables ?? DIFY_TABLES.filter((table) => columns.has(table));
    for (const stretch of stretches(planWorkload({ ...options, tables }))) {
      await Promise.all(lanes.map(async (lane, i) => {
        for (const operation of stretch.together) if (operation.lane === i) await run(operation, lane);
      }));
      if (!stretch.alone) continue;
      // DDL would wait for their locks.
      if (isOptional(stretch.alone.kind)) await held.releaseAll();
      await run(stretch.alone, lanes[stretch.alone.lane] as Lane);
      // Only DDL changes them, and a caller that kills the server may do so at any moment of this.
      if (isOptional(stretch.alone.kind)) columns = await columnsOf(await (lanes[0] as Lane).client());
    }
    return { counts, world, truncations };
  } finally {
    await held.releaseAll();
    await Promise.all(lanes.map((lane) => lane.close()));
  }
}

/** Throws an Error that lists the kinds of which none was done or none changed a row. */
export function assertEveryKind({ counts }: WorkloadResult, options: Pick<PlanOptions, 'ddl' | 'truncate'> = {}): void {
  const kinds: Kind[] = [...CORE_KINDS, ...(options.ddl ? DDL_KINDS : []), ...(options.truncate ? (['truncate'] as const) : [])];
  const idle = kinds.filter((kind) => !counts[kind]?.done || (kind !== 'idle' && !counts[kind]?.rows));
  if (idle.length > 0) throw new Error(`the workload did nothing of the kind: ${idle.join(', ')}`);
}

/** A line for each kind, for a person who looks at a round. */
export function describeCounts({ counts }: WorkloadResult): string {
  const lines = Object.entries(counts).sort(([a], [b]) => a.localeCompare(b)).map(([kind, { issued, done, rows, conflicts, lost }]) => `${kind.padEnd(32)} ${issued} issued, ${done} done, ${rows} rows, ${conflicts} conflicts${lost ? `, ${lost} lost` : ''}`);
  return lines.join('\n');
}

interface Stretch {
  readonly together: readonly Operation[];
  readonly alone?: Operation;
}

/** Cuts the plan at the operations that nobody else may run beside. */
function* stretches(plan: readonly Operation[]): Generator<Stretch> {
  let together: Operation[] = [];
  for (const operation of plan) {
    if (!isAlone(operation.kind)) together.push(operation);
    else {
      yield { together, alone: operation };
      together = [];
    }
  }
  if (together.length > 0) yield { together };
}

function isOptional(kind: Kind): kind is Exclude<Kind, CoreKind> {
  return (OPTIONAL_KINDS as readonly string[]).includes(kind);
}

/** One sequence of operations with its own connections. */
class Lane {
  private readonly options: WorkloadOptions;
  private readonly connections: readonly Connection[];

  constructor(options: WorkloadOptions) {
    this.options = options;
    this.connections = Array.from({ length: 3 }, () => new Connection(options.connect, options.reconnectMs ?? 0));
  }

  client(): Promise<pg.Client> {
    return (this.connections[0] as Connection).client();
  }

  async surroundings(world: World, columns: ReadonlyMap<DifyTable, readonly string[]>, held: HeldTransactions): Promise<Surroundings> {
    const [client, ...rivals] = await Promise.all(this.connections.map((connection) => connection.client()));
    return {
      client: client as pg.Client, rivals, world, columns, largeRows: this.options.largeRows ?? 100_000, bigRowBytes: this.options.bigRowBytes ?? 1_500_000, idleMs: this.options.idleMs ?? 400,
      hold: (begin) => held.hold(begin), sleep: (ms) => sleep(ms, undefined, { ...(this.options.signal ? { signal: this.options.signal } : {}) }).catch(() => {}),
    };
  }

  async close(): Promise<void> {
    await Promise.all(this.connections.map((connection) => connection.close()));
  }
}

function pacer(perSecond: number | undefined): () => Promise<void> {
  let next = performance.now();
  return async () => {
    if (perSecond === undefined) return;
    const now = performance.now();
    next = Math.max(next + 1000 / perSecond, now - 1000);
    if (next > now) await sleep(next - now);
  };
}
