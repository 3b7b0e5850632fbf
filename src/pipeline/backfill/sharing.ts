import type { Logger } from 'pino';
import { crashPoint } from '../../core/crash-point.ts';
import type { BackfillBeat, BackfillMember, BackfillRun, ControlLog } from '../../core/state.ts';
import { stateKeys } from '../../core/state.ts';
import { giveUp, type Writers } from './give-up.ts';
import { JobQueue } from './job-queue.ts';
import { batchOf, endsRun, membersOf } from './members.ts';
import type { Presence } from './presence.ts';
import { pause, reasonOf, remedyFor } from './retry.ts';
import { assertMember } from './run-record.ts';
import { Silence } from './silence.ts';
import type { SegmentJob, TableScan } from './table-scan.ts';

export interface SharingContext {
  readonly control: ControlLog;
  readonly member: BackfillMember;
  readonly writers: Writers;
  readonly presence: Presence;
  readonly silentMs: number;
  readonly retryForMs: number;
  readonly logger: Logger;
  readonly scans: readonly TableScan[];
  /** Throws when the run is no longer valid or this process no longer one of it. */
  readonly checkRun: () => void;
  /** Takes over what another process has recorded of a table that was rewritten. */
  readonly followPlans: () => Promise<void>;
}

const LEAST_MS = 500;
const MOST_MS = 2000;

/** This process's part of the run: takes segments for its workers, says that it lives, and sees when others do not. */
export class Sharing {
  readonly queue: JobQueue<SegmentJob>;
  readonly #context: SharingContext;
  readonly #everyMs: number;
  readonly #silence: Silence;
  /** Segments that were given to our workers. */
  readonly #given = new Set<string>();
  #secondsPerSegment: number | undefined;
  #news = Promise.withResolvers<void>();
  #givingUp: Promise<void> | undefined;

  constructor(context: SharingContext) {
    this.#context = context;
    this.#everyMs = Math.min(MOST_MS, Math.max(LEAST_MS, context.silentMs / 6));
    this.#silence = new Silence({ everyMs: this.#everyMs, silentMs: context.silentMs });
    this.queue = new JobQueue<SegmentJob>(() => this.wake());
  }

  /** Something may have changed: the control topic, or what our workers have left. */
  wake(): void {
    this.#news.resolve();
  }

  /** A worker has read a segment to its end. */
  ended(seconds: number): void {
    this.#secondsPerSegment = this.#secondsPerSegment === undefined ? seconds : 0.7 * this.#secondsPerSegment + 0.3 * seconds;
  }

  /**
   * Supplies the workers until every segment is read, whoever reads it. `end-it`: it is for this process to end the run;
   * `ended`: another has. Closes the queue.
   */
  async supply(stop: AbortSignal): Promise<'end-it' | 'ended' | 'stopped'> {
    let failingSince: number | undefined;
    try {
      while (!stop.aborted) {
        this.#news = Promise.withResolvers<void>();
        const news = this.#news.promise;
        try {
          const verdict = await this.#look();
          if (verdict === 'end-it' || verdict === 'ended') return verdict;
          failingSince = undefined;
          if (verdict === 'again') continue;
        } catch (error) {
          if (remedyFor(error, true) === 'stop') throw error;
          failingSince ??= Date.now();
          if (Date.now() - failingSince > this.#context.retryForMs) throw error;
          this.#context.logger.warn({ reason: reasonOf(error) }, 'backfill: no more ranges could be taken, and it is tried again');
        }
        await Promise.race([news, pause(this.#everyMs, stop)]);
      }
      return 'stopped';
    } finally {
      this.queue.close();
    }
  }

  async #look(): Promise<'again' | 'wait' | 'end-it' | 'ended'> {
    const { control, member, scans, checkRun, followPlans } = this.#context;
    const isOver = (): boolean => control.get<BackfillRun>(stateKeys.run(member.runId))?.state === 'done';
    if (isOver()) return 'ended';
    checkRun();
    await followPlans();
    if (scans.every((scan) => scan.done)) {
      await control.refresh();
      if (isOver()) return 'ended';
      await followPlans();
      return scans.every((scan) => scan.done) && endsRun(membersOf(control, member.runId), member.memberId) ? 'end-it' : 'wait';
    }
    if (this.queue.ahead >= member.workers || (this.#free().length === 0 && !this.#isOwed())) return 'wait';
    return (await this.#take()) > 0 ? 'again' : 'wait';
  }

  /** What is left and nobody's, as far as our view goes. */
  #free(): SegmentJob[] {
    const { control, member, scans } = this.#context;
    const run = control.get<BackfillRun>(stateKeys.run(member.runId));
    const taken = new Set(membersOf(control, member.runId).flatMap(({ segments }) => segments));
    return scans
      .filter((scan) => scan.planned?.plan.scan === run?.tables[scan.table]?.scan)
      .flatMap((scan) => scan.remaining())
      .filter((job) => !taken.has(nameOf(job)));
  }

  /**
   * Segments are recorded as ours that no worker was given: the answer of the change that took them was lost for good.
   * Nobody else takes them as long as we live, and they may have been the last free ones.
   */
  #isOwed(): boolean {
    const { control, member, scans } = this.#context;
    const mine = membersOf(control, member.runId).find(({ memberId }) => memberId === member.memberId)?.segments ?? [];
    const remaining = new Set(scans.flatMap((scan) => scan.remaining()).map(nameOf));
    return mine.some((name) => remaining.has(name) && !this.#given.has(name));
  }

  /** Takes segments for us alone, and gives them to our workers. */
  async #take(): Promise<number> {
    const { control, member, scans } = this.#context;
    const jobs = await control.change(() => {
      const mine = assertMember(control, member);
      const remaining = new Map(scans.flatMap((scan) => scan.remaining()).map((job) => [nameOf(job), job]));
      const free = this.#free();
      const batch = batchOf({ free: free.length, members: membersOf(control, member.runId).length, workers: member.workers, secondsPerSegment: this.#secondsPerSegment });
      const segments = [...mine.segments.filter((name) => remaining.has(name)), ...free.slice(0, batch).map(nameOf)];
      // Also those of a change whose answer was lost.
      const news = segments.filter((name) => !this.#given.has(name)).map((name) => remaining.get(name)!);
      return { writes: batch === 0 ? [] : [[stateKeys.member(member.runId, member.memberId), { ...mine, segments } satisfies BackfillMember]], result: news };
    });
    crashPoint('backfill.segments-claimed');
    for (const job of jobs) this.#given.add(nameOf(job));
    this.queue.add(jobs);
    return jobs.length;
  }

  /** Gives signs of life until the signal, and takes the ranges of those who give none. */
  async keepAlive(until: AbortSignal): Promise<void> {
    const { control, member, logger } = this.#context;
    for (let beat = 1; !until.aborted; beat++) {
      try {
        await control.put(stateKeys.beat(member.memberId), { beat } satisfies BackfillBeat);
        await control.refresh();
        await this.#lookAtOthers();
      } catch (error) {
        if (remedyFor(error, true) === 'stop') throw error;
        logger.debug({ reason: reasonOf(error) }, 'backfill: no sign of life could be given');
      }
      await pause(this.#everyMs, until);
    }
    await this.#givingUp;
  }

  async #lookAtOthers(): Promise<void> {
    const { control, member, presence, writers, logger } = this.#context;
    const others = membersOf(control, member.runId).filter(({ memberId }) => memberId !== member.memberId);
    // Also when there is nobody else yet: it takes our own lock again where the server was restarted.
    const held = await presence.held().catch(() => null);
    const gone = this.#silence.look(performance.now(), others.map(({ memberId, lock }) => ({ memberId, beat: control.get<BackfillBeat>(stateKeys.beat(memberId))?.beat, locked: held && held.has(lock) })));
    if (gone.length === 0) return;
    // Not waited for: our own signs of life go on.
    this.#givingUp ??= giveUp(control, writers, others.filter(({ memberId }) => gone.includes(memberId)), logger)
      .catch((error: unknown) => logger.warn({ reason: reasonOf(error) }, 'backfill: a process that is gone could not be given up, and it is tried again'))
      .finally(() => {
        this.#givingUp = undefined;
        this.wake();
      });
  }
}

function nameOf({ scan, number, open }: SegmentJob): string {
  return `${scan.table}/${number}/${open.segment.index}`;
}
