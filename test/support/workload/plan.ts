import { Random } from '../dify/random.ts';
import { DIFY_TABLES, type DifyTable } from '../dify/schema.ts';
import { CORE_KINDS, DDL_KINDS, sureOccurrences, WEIGHTS, type Kind } from './kinds.ts';

export interface PlanOptions {
  readonly seed: number;
  /** At least as many as the sure occurrences of all kinds, about 70. */
  readonly operations: number;
  /** Operations of one lane come one after another, those of different lanes at the same time. Default 4. */
  readonly lanes?: number;
  /** Default all four; `runWorkload` takes those that the database has. */
  readonly tables?: readonly DifyTable[];
  readonly ddl?: boolean;
  readonly truncate?: boolean;
}

/** One operation as it is issued; what it changes depends on what the others have done by then. */
export interface Operation {
  readonly number: number;
  readonly kind: Kind;
  readonly lane: number;
  readonly table: DifyTable;
  /** Ids of rows that probably exist, drawn from all lanes' rows. */
  readonly ids: readonly string[];
  /** Ids that no operation has used before. */
  readonly freshIds: readonly string[];
  /** All else about the operation is drawn from it. */
  readonly seed: number;
}

/** A few rows that all lanes come back to again and again. */
const HOT_ROWS = 6;
const HOT_SHARE = 0.25;
const MANY = 12;
const COPIED = 60;

const TABLE_WEIGHTS: Readonly<Record<DifyTable, number>> = { workflow_runs: 5, workflow_node_executions: 6, workflow_app_logs: 2, workflow_node_execution_offload: 2 };

/** Pure: the same options give the same operations. Throws a RangeError when there are too few for all kinds. */
export function planWorkload(options: PlanOptions): Operation[] {
  const random = new Random(options.seed);
  const pool = new IdPool(random.fork(), options.tables ?? DIFY_TABLES);
  return kindsInOrder(options, random).map((kind, number) => {
    const table = pool.table(kind);
    const needed = idsNeeded(kind, random);
    return { number, kind, lane: laneOf(kind, number, options.lanes ?? 4), table, ...pool.take(table, kind, needed), seed: random.bits() };
  });
}

/** The large ones build on each other, so one lane has them all and keeps their order. */
function laneOf(kind: Kind, number: number, lanes: number): number {
  return kind.startsWith('large-') ? 0 : number % lanes;
}

function kindsInOrder({ operations, ddl, truncate }: PlanOptions, random: Random): Kind[] {
  const kinds: Kind[] = [...CORE_KINDS, ...(ddl ? DDL_KINDS : []), ...(truncate ? (['truncate'] as const) : [])];
  const sure = kinds.flatMap((kind) => Array.from({ length: sureOccurrences(kind) }, () => kind));
  if (operations < sure.length) throw new RangeError(`${operations} operations cannot hold each kind as often as it must come: at least ${sure.length}`);
  const order: Kind[] = [...sure, ...Array.from({ length: operations - sure.length }, () => random.weighted(WEIGHTS))];
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.int(0, i);
    [order[i], order[j]] = [order[j] as Kind, order[i] as Kind];
  }
  return sorted(order, [['large-insert', 'large-update', 'large-delete'], DDL_KINDS]);
}

/** Keeps the places of some kinds and gives them out in the order in which one needs the other (add before drop). */
function sorted(order: Kind[], sequences: readonly (readonly Kind[])[]): Kind[] {
  for (const sequence of sequences) {
    const places = order.flatMap((kind, i) => (sequence.includes(kind) ? [i] : []));
    const rounds = Math.ceil(places.length / sequence.length);
    const inTurn = Array.from({ length: rounds }, () => sequence).flat();
    places.forEach((place, i) => (order[place] = inTurn[i] as Kind));
  }
  return order;
}

function idsNeeded(kind: Kind, random: Random): { known: number; fresh: number } {
  switch (kind) {
    case 'insert': case 'big-row': case 'insert-delete-one-transaction': return { known: 0, fresh: 1 };
    case 'insert-multi-row': return { known: 0, fresh: random.int(2, MANY) };
    case 'copy': return { known: 0, fresh: random.int(20, COPIED) };
    case 'delete-copy': case 'update-multi-row': case 'delete-multi-row': return { known: random.int(2, MANY), fresh: 0 };
    case 'upsert': case 'savepoint-rolled-back': case 'savepoint-released': case 'rolled-back': case 'failed-transaction': case 'mixed-transaction': case 'change-id': return { known: 2, fresh: 2 };
    case 'held-open': return { known: 1, fresh: 2 };
    case 'large-insert': case 'large-update': case 'large-delete': case 'idle': case 'truncate': case 'add-column': case 'rename-column': case 'drop-column': return { known: 0, fresh: 0 };
    default: return { known: 1, fresh: 0 };
  }
}

/** The ids in use, as far as a plan can know them: deleted ones stay in, so that they are met again. */
class IdPool {
  private readonly random: Random;
  private readonly weights: Partial<Record<DifyTable, number>>;
  private readonly ids: Record<DifyTable, string[]>;

  constructor(random: Random, tables: readonly DifyTable[]) {
    this.random = random;
    this.weights = Object.fromEntries(tables.map((table) => [table, TABLE_WEIGHTS[table]]));
    this.ids = { workflow_runs: [], workflow_app_logs: [], workflow_node_executions: [], workflow_node_execution_offload: [] };
  }

  table(kind: Kind): DifyTable {
    switch (kind) {
      case 'large-insert': case 'large-update': case 'large-delete': return 'workflow_app_logs';
      // Not the app logs, which hold the large transactions' rows.
      case 'truncate': return this.random.pick(['workflow_runs', 'workflow_node_executions']);
      // TOAST needs a text column, and Dify's own case of it is the run that ends.
      case 'update-unchanged-toast': return this.random.chance(0.7) ? 'workflow_runs' : 'workflow_node_executions';
      case 'update-hostile-json': case 'big-row': return this.random.chance(0.5) ? 'workflow_runs' : 'workflow_node_executions';
      default: return this.random.weighted(this.weights as Record<DifyTable, number>);
    }
  }

  take(table: DifyTable, kind: Kind, { known, fresh }: { known: number; fresh: number }): { ids: string[]; freshIds: string[] } {
    const pool = this.ids[table];
    // The first operations of a table find no rows yet: they are given ids that may come to exist.
    while (pool.length < HOT_ROWS + known) pool.push(this.random.uuid());
    const ids = new Set<string>();
    while (ids.size < known) ids.add(this.random.chance(kind === 'concurrent-writers' ? 0.7 : HOT_SHARE) ? (pool[this.random.int(0, HOT_ROWS - 1)] as string) : this.random.pick(pool));
    const freshIds = Array.from({ length: fresh }, () => this.random.uuid());
    pool.push(...freshIds);
    return { ids: [...ids], freshIds };
  }
}
