import type { Logger } from 'pino';
import type pg from 'pg';
import type { Publisher, PublishTransaction, RowRecord } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import type { SegmentProgress } from '../../core/state.ts';
import { type Chunk, readChunk, type RunVersion } from './chunk.ts';
import { ChunkSizer } from './chunk-sizer.ts';
import { type NextChunk, nextChunk } from './ranges.ts';
import { ReadSession } from './read-session.ts';
import { reread, type RereadOutcome } from './reread.ts';
import { pause, pauseMs, publishing, reasonOf, remedyFor } from './retry.ts';
import { Slabs } from './slabs.ts';
import { offsetsPerBlock, type PlannedTable } from './table-plan.ts';
import type { SegmentJob } from './table-scan.ts';
import { blockOf, type Tid, tidOf } from './tid.ts';

export interface WorkerContext {
  readonly connect: () => Promise<pg.Client>;
  readonly run: RunVersion;
  readonly deletePolicy: 'apply' | 'ignore';
  readonly batchRows: number;
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** Waits for the rate limit and the brake. */
  readonly mayRead: () => Promise<void>;
  /** Throws when the run is no longer valid. */
  readonly checkRun: () => void;
  readonly spent: (rows: number) => void;
  /** Where the progress of a segment is recorded. */
  readonly segmentKey: (job: SegmentJob) => string;
  /** Called when the table is not what `planned` says; the scan of the job may be over then. */
  readonly tableChanged: (job: SegmentJob, planned: PlannedTable) => Promise<void>;
  /** After a chunk's transaction committed, or an empty one was read. */
  readonly advanced: (job: SegmentJob, from: SegmentProgress, to: SegmentProgress) => void;
  /** Failures in a row are repeated for that long, then the run stops. */
  readonly retryForMs: number;
}

/** About a chunk: read, produced, read again and committed in well under Kafka's transaction timeout. */
const CHUNK_BYTES = 8 << 20;
/** What is read at once never holds more, unless it is a single row. */
const LIMIT_BYTES = 4 * CHUNK_BYTES;
/** Rows that move without end: less than the transaction timeout of 10 s, with room for the commit. */
const REREAD_MS = 5000;

/** Where a worker is in its segment. */
interface Position {
  readonly at: Tid;
  readonly progress: SegmentProgress;
}

/** Reads segments, one chunk at a time, with one connection and one fenced publisher. */
export class BackfillWorker {
  readonly #context: WorkerContext;
  readonly #publisher: Publisher;
  readonly #sizers = new WeakMap<PlannedTable, ChunkSizer>();
  readonly #slabs = new Slabs();
  #session: ReadSession | undefined;
  #closed = false;

  constructor(context: WorkerContext, publisher: Publisher) {
    this.#context = context;
    this.#publisher = publisher;
  }

  /** At once: the statement in progress fails. */
  close(): void {
    this.#closed = true;
    this.#session?.close();
  }

  /** Reads the rest of a segment; returns early when the signal comes or the table's scan begins again. */
  async readSegment(job: SegmentJob): Promise<void> {
    const { signal, logger } = this.#context;
    let position: Position = { at: tidOf(job.open.progress.nextBlock, 0), progress: job.open.progress };
    let planned: PlannedTable | undefined;
    let changed = false;
    let failures = 0;
    let failingSince = 0;
    while (!position.progress.done && !signal.aborted) {
      try {
        if (changed && planned) await this.#context.tableChanged(job, planned);
        changed = false;
        planned = job.scan.planned;
        if (!planned || planned.plan.scan !== job.number) return;
        await this.#context.mayRead();
        if (signal.aborted) return;
        this.#context.checkRun();
        position = await this.#step(job, planned, this.#sizerFor(planned), position);
        failures = 0;
      } catch (error) {
        if (this.#closed) return;
        const remedy = error === TABLE_CHANGED ? 'describe' : error === RESTLESS ? 'again' : remedyFor(error, this.#session?.dead ?? true);
        failures++;
        if (failures === 1) failingSince = Date.now();
        if (remedy === 'stop' || Date.now() - failingSince > this.#context.retryForMs) throw error;
        logger.warn({ table: job.scan.table, block: blockOf(position.at), remedy, failures, reason: reasonOf(error) }, 'backfill: a chunk failed and is read again');
        changed = remedy === 'describe';
        if (!changed || failures > 1) await pause(pauseMs(failures), signal);
      }
    }
  }

  /** One chunk, or none when the table holds no row there. */
  async #step(job: SegmentJob, planned: PlannedTable, sizer: ChunkSizer, from: Position): Promise<Position> {
    const end = job.open.segment.to;
    const offsets = offsetsPerBlock(planned.size);
    const next = nextChunk(from.at, end, planned.pages, sizer, offsets);
    const limit = sizer.smallest ? Number.POSITIVE_INFINITY : LIMIT_BYTES;
    // The chunk before is in the log, or was given up.
    this.#slabs.recycle();
    const chunk = next.ranges.length === 0
      ? EMPTY_CHUNK
      : await readChunk(await this.#reader(), planned.source, next.ranges, planned.condition, this.#context.run, limit, this.#slabs);
    if (chunk === 'overflow') {
      sizer.overflow(next.blocks);
      return from;
    }
    sizer.observe(next.blocks, chunk.rows.length, chunk.bytes);
    this.#context.spent(chunk.rows.length);
    crashPoint('backfill.chunk-read');
    const to: Position = { at: next.next, progress: progressAfter(from.progress, next, chunk, end) };
    // Where nothing was read nothing is recorded but the end, whose re-read also proves that the empty pages before it
    // were those of this table: its stamp never comes back.
    if (chunk.rows.length + chunk.letters.length > 0 || to.progress.done) await this.#publish(job, planned, chunk, to.progress);
    this.#context.advanced(job, from.progress, to.progress);
    return to;
  }

  async #publish(job: SegmentJob, planned: PlannedTable, chunk: Chunk, progress: SegmentProgress): Promise<void> {
    const transaction = await publishing(() => this.#publisher.begin());
    try {
      if (chunk.rows.length > 0) await publishing(() => transaction.send(chunk.rows.map(({ record }) => record)));
      if (chunk.letters.length > 0) await publishing(() => transaction.park(chunk.letters));
      const outcome = await this.#reread(planned, chunk, transaction);
      if (outcome === 'changed') throw TABLE_CHANGED;
      if (outcome === 'restless') throw RESTLESS;
      crashPoint('backfill.reread');
      await publishing(() => transaction.putControl(this.#context.segmentKey(job), progress));
      crashPoint('backfill.progress-saved');
      await publishing(() => transaction.commit());
    } catch (error) {
      await transaction.abort();
      throw error;
    }
  }

  #reread(planned: PlannedTable, chunk: Chunk, transaction: PublishTransaction): Promise<RereadOutcome> {
    return reread(chunk, {
      session: () => this.#reader(),
      source: planned.source,
      condition: planned.condition,
      run: this.#context.run,
      deletePolicy: this.#context.deletePolicy,
      limitBytes: LIMIT_BYTES,
      send: (records: readonly RowRecord[]) => publishing(() => transaction.send(records)),
      deadline: Date.now() + REREAD_MS,
    });
  }

  async #reader(): Promise<ReadSession> {
    if (this.#session && !this.#session.dead) return this.#session;
    this.#session = await ReadSession.open(this.#context.connect);
    // The pages of a chunk are asked for by their numbers; a plan that reads the whole table instead would be read for
    // every chunk.
    await this.#session.query('SET enable_seqscan = off');
    if (this.#closed) this.#session.close();
    return this.#session;
  }

  /** One for each plan of a table: what was learnt in a segment holds for the next one too. */
  #sizerFor(planned: PlannedTable): ChunkSizer {
    const known = this.#sizers.get(planned);
    if (known) return known;
    const { size, plan } = planned;
    const blocks = Math.max(plan.blocks, 1);
    const sizer = new ChunkSizer({ rows: this.#context.batchRows, bytes: CHUNK_BYTES }, offsetsPerBlock(size), {
      rowsPerBlock: plan.estimatedRows / blocks,
      bytesPerBlock: size.bytes / blocks,
    });
    this.#sizers.set(planned, sizer);
    return sizer;
  }
}

const TABLE_CHANGED = new Error('the table was rewritten, truncated or altered');
const RESTLESS = new Error('rows of the chunk changed without end');

const EMPTY_CHUNK: Chunk = { ranges: [], rows: [], places: Buffer.alloc(0), letters: [], bytes: 0 };

function progressAfter(before: SegmentProgress, next: NextChunk, chunk: Chunk, end: number): SegmentProgress {
  return { nextBlock: Math.min(end, blockOf(next.next)), done: next.next >= tidOf(end, 0), rows: before.rows + chunk.rows.length, bytes: before.bytes + chunk.bytes };
}
