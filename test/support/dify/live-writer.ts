import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { RunMaker, type RunBundle } from './generator.ts';
import { deleteSteps, STEP_KINDS, stepsOfRun, type RunHabits, type Step, type StepKind } from './live-run.ts';
import { Random } from './random.ts';
import { columnsOf, type DifyTable } from './schema.ts';

export interface LiveWriterOptions {
  /** Opens one connection; called once for each, and again when one was lost and `reconnect` is on. */
  readonly connect: () => Promise<pg.Client>;
  /** Decides all ids too: a second writer on the same tables needs another seed, or its INSERTs meet the first one's rows. */
  readonly seed: number;
  /** Runs written at the same time; default 4. */
  readonly connections?: number;
  /** Transactions per second over all connections; without it as fast as the server takes them. */
  readonly writesPerSecond?: number;
  /** Write for these tenants; default 5 of the writer's own. */
  readonly tenantIds?: readonly string[];
  readonly nodesPerRun?: number;
  readonly rowSize?: number;
  /** When a run starts; default the current time. */
  readonly now?: () => Date;
  /** Share of runs after which earlier runs of this writer are deleted; default 0.02. */
  readonly deletes?: number;
  readonly habits?: Partial<RunHabits>;
  /** Go on after an error of the server, for tests that stop it; default false: `stop` throws the first error. */
  readonly reconnect?: boolean;
}

export interface LiveWriterCounts {
  /** Transactions that the server acknowledged, by kind. */
  readonly steps: Readonly<Record<StepKind, number>>;
  readonly transactions: number;
  readonly runs: number;
  /** Transactions that failed or whose answer was lost; such a run is given up. Only with `reconnect`. */
  readonly errors: number;
}

export interface LiveWriter {
  counts(): LiveWriterCounts;
  /** Resolves when so many transactions were acknowledged since the start; rejects when the writer has failed. */
  reached(transactions: number): Promise<void>;
  /** Ends after the transactions under way; a run may be left unfinished, as a stopped Dify leaves it. */
  stop(): Promise<LiveWriterCounts>;
}

/** How many runs a connection remembers for its deletes, and the largest batch of one delete. */
const REMEMBERED = 200;
const DELETE_BATCH = 20;

/** Starts to write as Dify does (see live-run.ts), each step in a transaction of its own. */
export function startLiveWriter(options: LiveWriterOptions): LiveWriter {
  const stopping = new AbortController();
  const tally = new Tally();
  const pace = pacer(options.writesPerSecond, stopping.signal);
  const workers = Array.from({ length: options.connections ?? 4 }, (_, worker) => work(options, worker, tally, pace, stopping.signal));
  const done = Promise.all(workers).then(() => tally.end(), (error: unknown) => {
    stopping.abort();
    tally.fail(error);
    throw error;
  });
  done.catch(() => {});
  return {
    counts: () => tally.counts(),
    reached: (transactions) => tally.reached(transactions),
    stop: async () => {
      stopping.abort();
      await Promise.allSettled(workers);
      await done;
      return tally.counts();
    },
  };
}

async function work(options: LiveWriterOptions, worker: number, tally: Tally, pace: () => Promise<void>, stopping: AbortSignal): Promise<void> {
  const random = new Random(options.seed * 1009 + worker);
  const maker = new RunMaker({ seed: random.bits(), tenants: 5, ...pickDefined(options) });
  const past: RunBundle[] = [];
  while (!stopping.aborted) {
    let client: pg.Client | undefined;
    try {
      client = await options.connect();
      client.on('error', () => {});
      const columns = await columnsOf(client);
      while (!stopping.aborted) await oneRun(client, columns);
    } catch (error) {
      if (!options.reconnect) throw error;
      tally.errors++;
      await sleep(100, undefined, { signal: stopping }).catch(() => {});
    } finally {
      await client?.end().catch(() => {});
    }
  }

  async function oneRun(client: pg.Client, columns: Map<DifyTable, string[]>): Promise<void> {
    const bundle = maker.bundle(random.int(0, maker.tenants.length - 1), (options.now?.() ?? new Date()).getTime());
    const habits = { offload: 0.1, pause: 0.05, ...options.habits };
    for (const step of stepsOfRun(bundle, columns, random, habits)) if (!(await write(client, step))) return;
    tally.runs++;
    past.push(bundle);
    if (past.length > REMEMBERED) past.shift();
    if (past.length < 2 || !random.chance(options.deletes ?? 0.02)) return;
    const gone = past.splice(0, random.int(1, Math.min(DELETE_BATCH, past.length)));
    for (const step of deleteSteps(gone)) if (!(await write(client, step))) return;
  }

  async function write(client: pg.Client, step: Step): Promise<boolean> {
    await pace();
    if (stopping.aborted) return false;
    await transaction(client, step);
    tally.add(step.kind);
    return true;
  }
}

async function transaction(client: pg.Client, { statements }: Step): Promise<void> {
  if (statements.length > 1) await client.query('BEGIN');
  for (const { text, values } of statements) await client.query(text, [...values]);
  if (statements.length > 1) await client.query('COMMIT');
}

/** Grants one write after another at the given rate, over all that ask. */
function pacer(perSecond: number | undefined, stopping: AbortSignal): () => Promise<void> {
  if (perSecond === undefined) return async () => {};
  let next = performance.now();
  return async () => {
    const now = performance.now();
    next = Math.max(next + 1000 / perSecond, now - 1000);
    if (next > now) await sleep(next - now, undefined, { signal: stopping }).catch(() => {});
  };
}

class Tally {
  runs = 0;
  errors = 0;
  private readonly steps = Object.fromEntries(STEP_KINDS.map((kind) => [kind, 0])) as Record<StepKind, number>;
  private transactions = 0;
  private waiting: { at: number; resolve: () => void; reject: (error: unknown) => void }[] = [];
  private failure: { error: unknown } | undefined;

  add(kind: StepKind): void {
    this.steps[kind]++;
    this.transactions++;
    for (const waiter of this.waiting) if (waiter.at <= this.transactions) waiter.resolve();
    if (this.waiting.length > 0) this.waiting = this.waiting.filter(({ at }) => at > this.transactions);
  }

  reached(at: number): Promise<void> {
    if (this.failure) return Promise.reject(this.failure.error as Error);
    if (this.transactions >= at) return Promise.resolve();
    return new Promise((resolve, reject) => this.waiting.push({ at, resolve, reject }));
  }

  end(): void {
    this.fail(new Error('the writer was stopped'));
  }

  fail(error: unknown): void {
    this.failure ??= { error };
    for (const { reject } of this.waiting) reject(error);
    this.waiting = [];
  }

  counts(): LiveWriterCounts {
    return { steps: { ...this.steps }, transactions: this.transactions, runs: this.runs, errors: this.errors };
  }
}

function pickDefined({ tenantIds, nodesPerRun, rowSize }: LiveWriterOptions): { tenantIds?: readonly string[]; nodesPerRun?: number; rowSize?: number } {
  return { ...(tenantIds ? { tenantIds } : {}), ...(nodesPerRun === undefined ? {} : { nodesPerRun }), ...(rowSize === undefined ? {} : { rowSize }) };
}
