import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type pg from 'pg';
import type { Publisher, TableName } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { formatLsn, parseLsn } from '../../core/lsn.ts';
import type { BackfillFilter, BackfillRun, BackfillTable, ControlLog, SegmentProgress } from '../../core/state.ts';
import { stateKeys } from '../../core/state.ts';
import { type Blocker, takeBarrier } from './barrier.ts';
import { runVersion } from './chunk.ts';
import { filterSql, normalizeFilter, otherRunOpen } from './filter.ts';
import { JobQueue } from './job-queue.ts';
import { RateLimit } from './rate-limit.ts';
import { ReadSession } from './read-session.ts';
import { pause, PublishFailure, reasonOf, remedyFor } from './retry.ts';
import { allRequired, allRuns, clearRequired, decideStart, type SourceIdentity, type StartDecision, stopReason, writersToFence } from './run-record.ts';
import { planTable, type PlannedTable } from './table-plan.ts';
import { type SegmentJob, type TableProgress, TableScan } from './table-scan.ts';
import { BackfillWorker } from './worker.ts';

export interface BackfillOptions {
  /** A connected client with the pinned session settings: key bytes depend on them. */
  readonly connect: () => Promise<pg.Client>;
  /** The transactional publisher of migrate worker i; its first transaction fences whoever had that role before. */
  readonly openPublisher: (worker: number) => Promise<Publisher>;
  readonly control: ControlLog;
  /** The epoch and the slot of the stream, which must exist: only then is what a read does not see on the stream. */
  readonly source: SourceIdentity;
  readonly schema: string;
  readonly filter: BackfillFilter;
  readonly workers: number;
  /** Rows of a chunk, about. */
  readonly batchRows: number;
  /** Rows a second over all workers; 0: no limit. */
  readonly rowsPerSecond: number;
  readonly deletePolicy: 'apply' | 'ignore';
  readonly barrierTimeoutMs: number;
  /** How long a chunk that fails again and again is repeated before the run stops. */
  readonly retryForMs: number;
  /** Stops after the chunks in progress, within 10 s. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** Waits as long as the source must be spared. Called before each chunk. */
  readonly mayProceed?: () => Promise<void>;
  readonly onProgress?: (progress: TableProgress) => void;
  readonly onBlocked?: (blockers: readonly Blocker[]) => void;
}

export interface BackfillResult {
  readonly state: 'done' | 'stopped';
  readonly runId: string;
  readonly resumed: boolean;
  readonly barrierLsn: string;
  readonly tables: readonly TableProgress[];
  /** Tables of the filter that this Dify release does not have. */
  readonly missing: readonly TableName[];
  /** Tables for which BACKFILL REQUIRED is still recorded. */
  readonly stillRequired: readonly TableName[];
}

/** After the signal: as long a chunk may take to end by itself. */
const GRACE_MS = 7000;

/**
 * Reads what is in PostgreSQL into Kafka, or goes on with the open run of the same filter.
 *
 * Throws RUN_OPEN, CLEANUP_RUNNING, BARRIER_BLOCKED, TABLE_UNSUITABLE, RUN_VOID, KAFKA_FENCED and what `connect` and
 * `openPublisher` throw. After an error or a stop the run stays open and the same call goes on with it.
 */
export async function runBackfill(options: BackfillOptions): Promise<BackfillResult> {
  const filter = normalizeFilter(options.filter);
  // The lock before the run record: where cleanup-pg holds it nothing must be left open.
  const session = await ReadSession.open(options.connect);
  const opened: Publisher[] = [];
  try {
    await options.control.refresh();
    // Refused before anything is fenced: the open run may be alive.
    const early = decideNow(options, filter);
    if (early.kind === 'refuse') throw otherRunOpen(early.open.filter);
    const publishers = await fenceAndOpen(options, opened);
    const decision = decideNow(options, filter);
    if (decision.kind === 'refuse') throw otherRunOpen(decision.open.filter);
    for (const { run, reason } of decision.voided) {
      options.logger.warn({ runId: run.runId, reason }, 'backfill: an open run is void');
      await options.control.put(stateKeys.run(run.runId), { ...run, state: 'void', endedAt: new Date().toISOString() } satisfies BackfillRun);
    }
    const run = decision.kind === 'resume' ? decision.run : await newRun(options, filter, session);
    return await new Run(options, run, decision.kind === 'resume', session, publishers).read();
  } catch (error) {
    if (options.signal.aborted && (error as Error).name === 'AbortError') throw new DifyEsError('STOPPED', 'stopped while it waited for the barrier');
    if (error instanceof PublishFailure) throw error.cause;
    // Before the first chunk nothing is tried again: a server that goes away at the barrier ends the verb with its cure.
    if (session.dead && remedyFor(error, true) === 'again') throw new DifyEsError('PG_UNREACHABLE', `PostgreSQL went away (${reasonOf(error)})`, { cause: error });
    throw error;
  } finally {
    session.close();
    await Promise.race([Promise.allSettled(opened.map((publisher) => publisher.close())), timeLimit(2000)]);
  }
}

/**
 * Voids the open runs, whatever their filter, so that another one can begin. A migrate that is still reading for one
 * notices before its next chunk. Returns the run ids.
 */
export async function abandonRuns(control: ControlLog): Promise<string[]> {
  await control.refresh();
  const open = allRuns(control).filter((run) => run.state === 'open');
  for (const run of open) await control.put(stateKeys.run(run.runId), { ...run, state: 'void', endedAt: new Date().toISOString() } satisfies BackfillRun);
  return open.map((run) => run.runId);
}

function decideNow({ control, source }: BackfillOptions, filter: BackfillFilter): StartDecision {
  return decideStart(allRuns(control), filter, source, allRequired(control));
}

/**
 * Takes over every transactional id that was ever used, then lets go those beyond the workers of this run. Whatever was
 * opened is in `opened`, also after an error.
 */
async function fenceAndOpen({ control, openPublisher, workers }: BackfillOptions, opened: Publisher[]): Promise<Publisher[]> {
  const roles = Array.from({ length: writersToFence(allRuns(control), workers) }, (_, role) => role);
  const taken = await Promise.all(roles.map(async (role) => {
    const publisher = await openPublisher(role);
    opened.push(publisher);
    // A publisher takes its role over with its first transaction, not before.
    await (await publisher.begin()).abort();
    return publisher;
  }));
  await Promise.all(taken.slice(workers).map((publisher) => publisher.close()));
  // Only now: the last chunks of a worker that has just been fenced are on the topic, or will never be.
  await control.refresh();
  return taken.slice(0, workers);
}

async function newRun(options: BackfillOptions, filter: BackfillFilter, session: ReadSession): Promise<BackfillRun> {
  const { source, barrierTimeoutMs, signal, onBlocked } = options;
  const barrier = await takeBarrier(session, { timeoutMs: barrierTimeoutMs, signal, ...(onBlocked ? { onBlocked } : {}) });
  return {
    runId: randomUUID(), state: 'open', epoch: source.epoch, slot: source.slot, barrierLsn: formatLsn(barrier), filter,
    workers: writersToFence(allRuns(options.control), options.workers), tables: {}, startedAt: new Date().toISOString(), endedAt: null,
  };
}

/** Does not keep the process alive. */
const timeLimit = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms).unref());

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

class Run {
  readonly #options: BackfillOptions;
  readonly #resumed: boolean;
  readonly #session: ReadSession;
  readonly #publishers: readonly Publisher[];
  readonly #condition: string | null;
  readonly #scans: TableScan[] = [];
  readonly #queue = new JobQueue<SegmentJob>();
  readonly #stop = new AbortController();
  #run: BackfillRun;

  constructor(options: BackfillOptions, run: BackfillRun, resumed: boolean, session: ReadSession, publishers: readonly Publisher[]) {
    this.#options = options;
    this.#run = run;
    this.#resumed = resumed;
    this.#session = session;
    this.#publishers = publishers;
    this.#condition = filterSql(run.filter);
  }

  async read(): Promise<BackfillResult> {
    const { control, logger, signal } = this.#options;
    const planned = await this.#planTables(this.#session);
    await this.#record({ ...this.#run, workers: writersToFence([this.#run], this.#options.workers), tables: Object.fromEntries(planned.map((one) => [one.source.table, one.plan])) });
    crashPoint('backfill.run-recorded');
    logger.info({ runId: this.#run.runId, barrier: this.#run.barrierLsn, resumed: this.#resumed, tables: Object.keys(this.#run.tables) }, 'backfill: run is open');
    for (const one of planned) {
      const scan = new TableScan(one.source.table, one);
      this.#scans.push(scan);
      this.#begin(scan);
      this.#options.onProgress?.(scan.progress());
    }
    await this.#work();
    if (signal.aborted) return this.#result('stopped', []);
    await control.refresh();
    this.#check();
    // First the requirements, then the run: after a crash between the two the next migrate ends the open run at once.
    const stillRequired = await clearRequired(control, this.#run);
    await this.#record({ ...this.#run, state: 'done', endedAt: new Date().toISOString() });
    crashPoint('backfill.run-closed');
    return this.#result('done', stillRequired);
  }

  /** Tables of a resumed run keep their plan as long as they are physically the same. */
  async #planTables(session: ReadSession): Promise<PlannedTable[]> {
    const planned: PlannedTable[] = [];
    for (const table of this.#run.filter.tables) {
      const former = this.#run.tables[table];
      if (this.#resumed && !former) continue;
      const one = await planTable(session, this.#options.schema, table, this.#condition, former);
      if (one) planned.push(one);
    }
    return planned;
  }

  /** Throws when somebody abandoned the run or the source changed: what it reads now could be wrong, or missing. */
  #check(): void {
    const reason = stopReason(this.#options.control, this.#run);
    if (reason !== undefined) throw new DifyEsError('RUN_VOID', `the backfill stopped: ${reason}`);
  }

  async #record(run: BackfillRun): Promise<void> {
    this.#run = run;
    await this.#options.control.put(stateKeys.run(run.runId), run);
  }

  #begin(scan: TableScan): void {
    this.#queue.add(scan.begin((plan, segment) => this.#options.control.get<SegmentProgress>(this.#segmentKey(scan.table, plan.scan, segment))));
  }

  #segmentKey(table: TableName, scan: number, segment: number): string {
    return stateKeys.segment(this.#run.runId, table, scan, segment);
  }

  async #work(): Promise<void> {
    const { signal } = this.#options;
    const stop = AbortSignal.any([signal, this.#stop.signal]);
    const rate = new RateLimit(this.#options.rowsPerSecond);
    const workers = this.#publishers.map((publisher) => new BackfillWorker(this.#workerContext(stop, rate), publisher));
    const stopped = whenAborted(stop);
    void stopped.then(() => {
      this.#queue.close();
      setTimeout(() => workers.forEach((worker) => worker.close()), GRACE_MS).unref();
    });
    // A publisher that hangs must not keep a stopped process alive: Kafka aborts its open transaction.
    const late = stopped.then(() => timeLimit(GRACE_MS + 1000)).then(() => 'late' as const);
    const settled = await Promise.race([Promise.allSettled(workers.map((worker) => this.#workOff(worker))), late]);
    for (const worker of workers) worker.close();
    const failed = settled === 'late' ? undefined : settled.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  async #workOff(worker: BackfillWorker): Promise<void> {
    for (let job = await this.#queue.take(); job; job = await this.#queue.take()) {
      try {
        await worker.readSegment(job);
      } catch (error) {
        // The others end their chunks; the run stays open.
        this.#stop.abort();
        throw error;
      } finally {
        this.#queue.finished();
      }
    }
  }

  #workerContext(signal: AbortSignal, rate: RateLimit): ConstructorParameters<typeof BackfillWorker>[0] {
    const { connect, deletePolicy, batchRows, logger, retryForMs, mayProceed, onProgress } = this.#options;
    const stopped = whenAborted(signal);
    return {
      connect, deletePolicy, batchRows, logger, retryForMs, signal,
      run: runVersion(this.#run.epoch, parseLsn(this.#run.barrierLsn)),
      mayRead: async () => {
        for (let wait = rate.waitMs(Date.now()); wait > 0 && !signal.aborted; wait = rate.waitMs(Date.now())) await pause(wait, signal);
        if (mayProceed && !signal.aborted) await Promise.race([mayProceed(), stopped]);
      },
      checkRun: () => this.#check(),
      spent: (rows) => rate.spend(rows),
      segmentKey: (job) => this.#segmentKey(job.scan.table, job.number, job.open.segment.index),
      tableChanged: (job, planned) => this.#tableChanged(job.scan, planned),
      onAdvance: (job) => onProgress?.(job.scan.progress()),
    };
  }

  /** Reads the new state of a table; when it was rewritten its scan begins again under the same barrier. */
  async #tableChanged(scan: TableScan, stale: PlannedTable): Promise<void> {
    const again = await scan.replan(stale.source, async (former: BackfillTable) => {
      // A session of its own: the first one may have broken in the hours since, and a worker's is that of its chunk.
      const session = await ReadSession.open(this.#options.connect);
      try {
        const planned = await planTable(session, this.#options.schema, scan.table, this.#condition, former);
        this.#check();
        if (planned && planned.plan !== former) await this.#record({ ...this.#run, tables: { ...this.#run.tables, [scan.table]: planned.plan } });
        return planned;
      } finally {
        session.close();
      }
    });
    if (!again) return;
    this.#options.logger.warn({ table: scan.table, scan: scan.planned?.plan.scan }, 'backfill: the table was rewritten or dropped, its scan begins again');
    this.#queue.removeIf((job) => job.scan === scan);
    this.#begin(scan);
    this.#options.onProgress?.(scan.progress());
  }

  #result(state: 'done' | 'stopped', stillRequired: readonly TableName[]): BackfillResult {
    const { runId, barrierLsn, filter } = this.#run;
    const missing = filter.tables.filter((table) => !this.#scans.some((scan) => scan.table === table));
    return { state, runId, resumed: this.#resumed, barrierLsn, tables: this.#scans.map((scan) => scan.progress()), missing, stillRequired };
  }
}
