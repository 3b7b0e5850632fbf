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

/** The time a piece of work has taken: it stands still once the work is done, or its rate would sink from then on. */
class Clock {
  readonly #began = Date.now();
  #ended: number | undefined;

  elapsedMs({ done, total }: Progress): number {
    if (total !== null && done >= total) this.#ended ??= Date.now();
    else this.#ended = undefined;
    return (this.#ended ?? Date.now()) - this.#began;
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

/** `3,120 rows/s · 14.6 MB/s · 2 min left`, from the averages since `since`. */
export function describeRate(progress: Progress, elapsedMs: number): string {
  const seconds = Math.max(elapsedMs / 1000, 0.001);
  const left = progress.total !== null && progress.done > 0 ? ((progress.total - progress.done) / progress.done) * seconds : null;
  const parts = [`${formatCount(progress.rows)} rows`, `${formatCount(progress.rows / seconds)} rows/s`];
  if (progress.bytes > 0) parts.push(`${formatBytes(progress.bytes / seconds)}/s`);
  if (left !== null && left > 0) parts.push(`${formatDuration(left)} left`);
  return parts.join(' · ');
}

function bars(): ProgressView {
  const multi = new cliProgress.MultiBar(
    { format: '{name} {bar} {percentage}% · {rate}', barsize: 24, hideCursor: true, clearOnComplete: false, stream: process.stderr, fps: 8, autopadding: true },
    cliProgress.Presets.shades_classic,
  );
  const started = new Map<string, { bar: cliProgress.SingleBar; clock: Clock }>();
  return {
    show: (progress) => {
      let entry = started.get(progress.name);
      if (!entry) {
        entry = { bar: multi.create(progress.total ?? 1, 0, { name: progress.name.padEnd(34), rate: '' }), clock: new Clock() };
        started.set(progress.name, entry);
      }
      entry.bar.setTotal(Math.max(progress.total ?? progress.done + 1, progress.done, 1));
      entry.bar.update(progress.done, { rate: describeRate(progress, entry.clock.elapsedMs(progress)) });
    },
    end: () => multi.stop(),
  };
}

function lines(): ProgressView {
  const started = new Map<string, { clock: Clock; said: number; last: Progress }>();
  const say = (progress: Progress, clock: Clock): void => {
    const percent = progress.total ? `${Math.min(100, Math.floor((100 * progress.done) / progress.total))}% · ` : '';
    process.stderr.write(`${progress.name}: ${percent}${describeRate(progress, clock.elapsedMs(progress))}\n`);
  };
  return {
    show: (progress) => {
      const now = Date.now();
      const entry = started.get(progress.name) ?? { clock: new Clock(), said: now, last: progress };
      entry.last = progress;
      entry.clock.elapsedMs(progress);
      if (now - entry.said >= PLAIN_EVERY_MS) {
        entry.said = now;
        say(progress, entry.clock);
      }
      started.set(progress.name, entry);
    },
    end: () => {
      for (const entry of started.values()) say(entry.last, entry.clock);
    },
  };
}
