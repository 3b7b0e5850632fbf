import cliProgress from 'cli-progress';
import { formatBytes, formatCount, formatDuration } from './format.ts';

/** A state of one long piece of work; `done` and `total` in the same unit (rows, pages, records). */
export interface Progress {
  readonly name: string;
  readonly done: number;
  /** An estimate; null while nothing is known. */
  readonly total: number | null;
  readonly rows: number;
  readonly bytes: number;
}

export interface ProgressView {
  show(progress: Progress): void;
  end(): void;
}

const PLAIN_EVERY_MS = 5000;

/** What has been done since a piece of work began to move, and the time it took. */
interface Pace {
  readonly done: number;
  readonly rows: number;
  readonly bytes: number;
  readonly seconds: number;
}

/**
 * Begins when the work first moves: what an earlier run of it has done, and the time it waited for its turn, are no part
 * of its rate. It stands still once the work is done, or the rate would sink from then on.
 */
export class Stopwatch {
  readonly #first: Progress;
  #began: number;
  #ended: number | undefined;

  constructor(first: Progress, now = Date.now()) {
    this.#first = first;
    this.#began = now;
  }

  at(progress: Progress, now = Date.now()): Pace {
    // Nothing has moved so far: the time since the last look is that of whatever moves it first.
    if (progress.done === this.#first.done) this.#began = now;
    if (progress.total !== null && progress.done >= progress.total) this.#ended ??= now;
    else this.#ended = undefined;
    const { done, rows, bytes } = this.#first;
    return { done: progress.done - done, rows: progress.rows - rows, bytes: progress.bytes - bytes, seconds: Math.max(((this.#ended ?? now) - this.#began) / 1000, 0.001) };
  }
}

/**
 * One bar for each name with rate and time left when standard error is a terminal, otherwise a plain line for each name
 * every five seconds and one at its end. Written to standard error: standard output belongs to the answer.
 */
export function createProgress(quiet: boolean, terminal = Boolean(process.stderr.isTTY)): ProgressView {
  if (quiet) return { show: () => {}, end: () => {} };
  return terminal ? bars() : lines();
}

/** `12,000 rows · 3,120 rows/s · 14.6 MB/s · 2 min left`: all rows there are by now, and the averages of `pace` once there are any. */
export function describeRate(progress: Progress, pace: Pace): string {
  const left = progress.total !== null && pace.done > 0 ? ((progress.total - progress.done) / pace.done) * pace.seconds : null;
  const parts = [`${formatCount(progress.rows)} rows`];
  if (pace.rows > 0) parts.push(`${formatCount(pace.rows / pace.seconds)} rows/s`);
  if (pace.bytes > 0) parts.push(`${formatBytes(pace.bytes / pace.seconds)}/s`);
  if (left !== null && left > 0) parts.push(`${formatDuration(left)} left`);
  return parts.join(' · ');
}

function bars(): ProgressView {
  const multi = new cliProgress.MultiBar(
    { format: '{name} {bar} {percentage}% · {rate}', barsize: 24, hideCursor: true, clearOnComplete: false, stream: process.stderr, fps: 8, autopadding: true },
    cliProgress.Presets.shades_classic,
  );
  const started = new Map<string, { bar: cliProgress.SingleBar; watch: Stopwatch }>();
  return {
    show: (progress) => {
      let entry = started.get(progress.name);
      if (!entry) {
        entry = { bar: multi.create(progress.total ?? 1, 0, { name: progress.name.padEnd(34), rate: '' }), watch: new Stopwatch(progress) };
        started.set(progress.name, entry);
      }
      entry.bar.setTotal(Math.max(progress.total ?? progress.done + 1, progress.done, 1));
      entry.bar.update(progress.done, { rate: describeRate(progress, entry.watch.at(progress)) });
    },
    end: () => multi.stop(),
  };
}

function lines(): ProgressView {
  const started = new Map<string, { readonly watch: Stopwatch; said: number; last: Progress }>();
  const say = (progress: Progress, pace: Pace): void => {
    const percent = progress.total ? `${Math.min(100, Math.floor((100 * progress.done) / progress.total))}% · ` : '';
    process.stderr.write(`${progress.name}: ${percent}${describeRate(progress, pace)}\n`);
  };
  return {
    show: (progress) => {
      const now = Date.now();
      const entry = started.get(progress.name) ?? { watch: new Stopwatch(progress), said: now, last: progress };
      started.set(progress.name, entry);
      entry.last = progress;
      const pace = entry.watch.at(progress);
      if (now - entry.said < PLAIN_EVERY_MS) return;
      entry.said = now;
      say(progress, pace);
    },
    end: () => {
      for (const { watch, last } of started.values()) say(last, watch.at(last));
    },
  };
}
