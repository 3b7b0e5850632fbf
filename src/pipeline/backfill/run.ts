import { setTimeout as sleep } from 'node:timers/promises';
import type { TableName } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { parseLsn } from '../../core/lsn.ts';
import type { BackfillRun, BackfillTable, SegmentProgress } from '../../core/state.ts';
import { stateKeys } from '../../core/state.ts';
import { runVersion } from './chunk.ts';
import { filterSql } from './filter.ts';
import type { Joined } from './join.ts';
import type { BackfillOptions, BackfillResult } from './options.ts';
import type { Presence } from './presence.ts';
import { RateLimit } from './rate-limit.ts';
import { ReadSession } from './read-session.ts';
import { pause } from './retry.ts';
import { allRequired, assertMember, clearRequired, stopReason } from './run-record.ts';
import { Sharing } from './sharing.ts';
import { planTable, type PlannedTable } from './table-plan.ts';
import { type SegmentJob, TableScan } from './table-scan.ts';
import { BackfillWorker, type WorkerContext } from './worker.ts';

/** After the signal: as long a chunk may take to end by itself. */
const GRACE_MS = 7000;
/** For the last sign of life, where Kafka does not answer. */
const CLOSE_MS = 500;

/** One process's reading for a run, from its joining to the run's end. */
export class Run {
  readonly #options: BackfillOptions;
  readonly #joined: Joined;
  readonly #condition: string | null;
  readonly #scans: TableScan[] = [];
  readonly #sharing: Sharing;
  readonly #stop = new AbortController();
  #ownRows = 0;
  #clean = false;

  constructor(options: BackfillOptions, joined: Joined, presence: Presence) {
    const { control, writers, silentMs, retryForMs, logger } = options;
    this.#options = options;
    this.#joined = joined;
    this.#condition = filterSql(joined.run.filter);
    this.#sharing = new Sharing({
      control, writers, silentMs, retryForMs, logger, presence, member: joined.member, scans: this.#scans,
      checkRun: () => this.#check(),
      followPlans: () => this.#followPlans(),
    });
  }

  /** Every transaction of ours has ended for certain: nothing of ours can reach the topics any more. */
  get clean(): boolean {
    return this.#clean;
  }

  async read(session: ReadSession): Promise<BackfillResult> {
    const { control, logger, onProgress } = this.#options;
    const { run, member, resumed } = this.#joined;
    for (const one of await this.#planTables(session)) {
      const scan = new TableScan(one.source.table, one);
      this.#begin(scan);
      this.#scans.push(scan);
    }
    logger.info({ runId: run.runId, memberId: member.memberId, barrier: run.barrierLsn, resumed, tables: this.#scans.map(({ table }) => table) }, 'backfill: run is open');
    for (const scan of this.#scans) onProgress?.(scan.progress());
    const unwatch = control.onChange((key) => this.#onControl(key));
    const alive = new AbortController();
    const living = this.#sharing.keepAlive(alive.signal);
    living.catch(() => this.#stop.abort());
    try {
      const ending = await this.#work();
      if (ending === 'stopped') return this.#result('stopped', []);
      const stillRequired = ending === 'end-it' ? await this.#end() : allRequired(control).map(({ table }) => table);
      return this.#result('done', stillRequired);
    } finally {
      unwatch();
      alive.abort();
      await Promise.race([living, timeLimit(CLOSE_MS)]);
    }
  }

  /** Tables keep the plan of the run as long as they are physically the same. */
  async #planTables(session: ReadSession): Promise<PlannedTable[]> {
    const { run, resumed, planned } = this.#joined;
    if (!resumed) return [...planned];
    const again: PlannedTable[] = [];
    for (const table of run.filter.tables) {
      const one = await this.#agreeOnPlan(session, table);
      if (one) again.push(one);
    }
    return again;
  }

  #recorded(): BackfillRun | undefined {
    return this.#options.control.get<BackfillRun>(stateKeys.run(this.#joined.run.runId));
  }

  /**
   * Throws when somebody abandoned the run or the source changed: what it reads now could be wrong, or missing. Also
   * when our ranges were taken over.
   */
  #check(): void {
    const { control } = this.#options;
    // Ended by another: nothing is left to read, and supply() tells our workers.
    if (this.#recorded()?.state === 'done') return;
    const reason = stopReason(control, this.#joined.run);
    if (reason !== undefined) throw new DifyEsError('RUN_VOID', `the backfill stopped: ${reason}`);
    assertMember(control, this.#joined.member);
  }

  /** First the requirements, then the run: after a crash between the two the next migrate ends the open run at once. */
  async #end(): Promise<readonly TableName[]> {
    const { control } = this.#options;
    // Whoever was to end it may have done so and left just before it came to us.
    if (this.#recorded()?.state === 'done') return allRequired(control).map(({ table }) => table);
    this.#check();
    const stillRequired = await clearRequired(control, this.#joined.run);
    crashPoint('backfill.required-cleared');
    await control.change(() => {
      const run = this.#recorded();
      const done = run?.state === 'open' ? ({ ...run, state: 'done', endedAt: new Date().toISOString() } satisfies BackfillRun) : undefined;
      return { writes: done ? [[stateKeys.run(done.runId), done]] : [], result: undefined };
    });
    crashPoint('backfill.run-closed');
    return stillRequired;
  }

  #begin(scan: TableScan): void {
    scan.begin((plan, segment) => this.#options.control.get<SegmentProgress>(this.#segmentKey(scan.table, plan.scan, segment)));
  }

  #segmentKey(table: TableName, scan: number, segment: number): string {
    return stateKeys.segment(this.#joined.run.runId, table, scan, segment);
  }

  /** What other processes have read, and what they have decided. */
  #onControl(key: string): void {
    const segments = stateKeys.segments(this.#joined.run.runId);
    if (key.startsWith(segments)) {
      const [table, scan, index] = key.slice(segments.length).split('/') as [TableName, string, string];
      const found = this.#scans.find((one) => one.table === table);
      if (found?.note(Number(scan), Number(index), this.#options.control.get<SegmentProgress>(key))) this.#options.onProgress?.(found.progress());
      if (found?.done) this.#sharing.wake();
    } else if (key.startsWith('backfill/') && !key.startsWith(stateKeys.beat(''))) this.#sharing.wake();
  }

  async #work(): Promise<'end-it' | 'ended' | 'stopped'> {
    const { signal, rowsPerSecond } = this.#options;
    const stop = AbortSignal.any([signal, this.#stop.signal]);
    const rate = new RateLimit(rowsPerSecond);
    const workers = this.#joined.publishers.map((publisher) => new BackfillWorker(this.#workerContext(stop, rate), publisher));
    const stopped = whenAborted(stop);
    void stopped.then(() => {
      this.#sharing.queue.close();
      setTimeout(() => workers.forEach((worker) => worker.close()), GRACE_MS).unref();
    });
    const supplied = this.#sharing.supply(stop);
    supplied.catch(() => this.#stop.abort());
    // A publisher that hangs must not keep a stopped process alive: Kafka aborts its open transaction.
    const late = stopped.then(() => timeLimit(GRACE_MS + 1000)).then(() => 'late' as const);
    const settled = await Promise.race([Promise.allSettled([...workers.map((worker) => this.#workOff(worker)), supplied]), late]);
    for (const worker of workers) worker.close();
    if (settled === 'late') return 'stopped';
    const failed = settled.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    this.#clean = true;
    // Fulfilled, as seen above.
    return supplied;
  }

  async #workOff(worker: BackfillWorker): Promise<void> {
    for (let job = await this.#sharing.queue.take(); job; job = await this.#sharing.queue.take()) {
      const began = performance.now();
      try {
        await worker.readSegment(job);
        this.#sharing.ended((performance.now() - began) / 1000);
      } catch (error) {
        // The others end their chunks; the run stays open.
        this.#stop.abort();
        throw error;
      }
    }
  }

  #workerContext(signal: AbortSignal, rate: RateLimit): WorkerContext {
    const { connect, deletePolicy, batchRows, logger, retryForMs, mayProceed } = this.#options;
    const { run } = this.#joined;
    const stopped = whenAborted(signal);
    return {
      connect, deletePolicy, batchRows, logger, retryForMs, signal,
      run: runVersion(run.epoch, parseLsn(run.barrierLsn)),
      mayRead: async () => {
        for (let wait = rate.waitMs(Date.now()); wait > 0 && !signal.aborted; wait = rate.waitMs(Date.now())) await pause(wait, signal);
        if (mayProceed && !signal.aborted) await Promise.race([mayProceed(), stopped]);
      },
      checkRun: () => this.#check(),
      spent: (rows) => rate.spend(rows),
      segmentKey: (job) => this.#segmentKey(job.scan.table, job.number, job.open.segment.index),
      tableChanged: (job, planned) => this.#tableChanged(job.scan, planned),
      advanced: (job, from, to) => this.#advanced(job, from, to),
    };
  }

  #advanced({ scan, number, open }: SegmentJob, from: SegmentProgress, to: SegmentProgress): void {
    this.#ownRows += to.rows - from.rows;
    if (scan.note(number, open.segment.index, to)) this.#options.onProgress?.(scan.progress());
  }

  /** Reads the new state of a table; when it was rewritten its scan begins again under the same barrier. */
  async #tableChanged(scan: TableScan, stale: PlannedTable): Promise<void> {
    const again = await scan.replan(stale.source, async () => {
      // A session of its own: the first one may have broken in the hours since, and a worker's is that of its chunk.
      const session = await ReadSession.open(this.#options.connect);
      try {
        return await this.#agreeOnPlan(session, scan.table);
      } finally {
        session.close();
      }
    });
    if (!again) return;
    this.#options.logger.warn({ table: scan.table, scan: scan.planned?.plan.scan }, 'backfill: the table was rewritten or dropped, its scan begins again');
    this.#sharing.queue.removeIf((job) => job.scan === scan);
    this.#begin(scan);
    this.#sharing.wake();
    this.#options.onProgress?.(scan.progress());
  }

  /** Another process may have met the rewrite first: then its plan is the run's. */
  async #followPlans(): Promise<void> {
    const recorded = this.#recorded();
    for (const scan of this.#scans) {
      if (recorded && scan.planned && scan.planned.plan.scan !== recorded.tables[scan.table]?.scan) await this.#tableChanged(scan, scan.planned);
    }
  }

  /**
   * The plan of a table by which all processes of the run read it: the recorded one if the table still is what it says,
   * else one of its own, unless another process was quicker. Undefined when the table was dropped.
   */
  async #agreeOnPlan(session: ReadSession, table: TableName): Promise<PlannedTable | undefined> {
    const { control, schema } = this.#options;
    for (let former: BackfillTable | undefined = this.#recorded()?.tables[table]; former; ) {
      const planned = await planTable(session, schema, table, this.#condition, former);
      if (planned?.plan === former) return planned;
      const before = former;
      const agreed: BackfillTable | undefined = await control.change(() => {
        this.#check();
        const run = this.#recorded()!;
        if (run.state === 'done') return { writes: [], result: undefined };
        const now = run.tables[table];
        if (now?.scan !== before.scan) return { writes: [], result: now };
        const { [table]: _, ...others } = run.tables;
        const next = { ...run, tables: planned ? { ...others, [table]: planned.plan } : others } satisfies BackfillRun;
        return { writes: [[stateKeys.run(run.runId), next]], result: planned?.plan };
      });
      if (planned && agreed && agreed.scan === planned.plan.scan && agreed.relfilenode === planned.plan.relfilenode) return { ...planned, plan: agreed };
      former = agreed;
    }
    return undefined;
  }

  #result(state: 'done' | 'stopped', stillRequired: readonly TableName[]): BackfillResult {
    const { run: { runId, barrierLsn, filter }, resumed } = this.#joined;
    const missing = filter.tables.filter((table) => !this.#scans.some((scan) => scan.table === table));
    return { state, runId, resumed, barrierLsn, tables: this.#scans.map((scan) => scan.progress()), ownRows: this.#ownRows, missing, stillRequired };
  }
}

/** Does not keep the process alive. */
export const timeLimit = (ms: number): Promise<void> => sleep(ms, undefined, { ref: false });

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
