import { setTimeout as sleep } from 'node:timers/promises';
import type { ErrorCode } from '../../core/errors.ts';
import { readPart } from '../status/part.ts';

/**
 * What was last seen of one thing, for a page that has to say both: what is known, and whether it still holds. `away`
 * keeps the last value with its age, so that a server that restarts does not empty the page.
 */
export type Seen<T> =
  | { readonly state: 'unseen' }
  | { readonly state: 'seen'; readonly at: number; readonly value: T }
  | { readonly state: 'away'; readonly since: number; readonly code: ErrorCode; readonly message: string; readonly cure: string; readonly last: { readonly at: number; readonly value: T } | null };

/** The newest value there is, also that of a server that is away now. */
export function lastOf<T>(seen: Seen<T>): T | null {
  return seen.state === 'seen' ? seen.value : seen.state === 'away' ? (seen.last?.value ?? null) : null;
}

/**
 * A look that takes long is repeated more seldom: it must not take more than this share of a server's time. Not one that
 * failed: waiting for a server that does not answer costs it nothing, and ten times its time limit is how long it would
 * then be shown as away after it came back.
 */
const MOST_SHARE_OF_TIME = 0.1;

export interface Pace {
  /** True while a page is open. */
  watched(): boolean;
  /** Calls back when a page is opened; returns the function that ends it. */
  onOpen(listener: () => void): () => void;
}

export interface LookOptions<T> {
  /** Of an answer that does not come in time. */
  readonly away: ErrorCode;
  readonly read: () => Promise<T>;
  /** Pause between two looks while a page is open, and while none is. */
  readonly watchedMs: number;
  readonly restingMs: number;
  readonly onSeen: () => void;
}

/** One thing that is looked at again and again. Never throws. */
export class Look<T> {
  readonly #options: LookOptions<T>;
  #pending: Promise<T> | undefined;
  #seen: Seen<T> = { state: 'unseen' };

  constructor(options: LookOptions<T>) {
    this.#options = options;
  }

  get seen(): Seen<T> {
    return this.#seen;
  }

  async run(pace: Pace, signal: AbortSignal): Promise<void> {
    const { watchedMs, restingMs, onSeen } = this.#options;
    while (!signal.aborted) {
      const began = performance.now();
      await this.once();
      if (signal.aborted) return;
      onSeen();
      const tookMs = this.#seen.state === 'seen' ? performance.now() - began : 0;
      const watched = pace.watched();
      const wake = new AbortController();
      const forget = watched ? () => {} : pace.onOpen(() => wake.abort());
      await sleep(Math.max(watched ? watchedMs : restingMs, tookMs / MOST_SHARE_OF_TIME - tookMs), undefined, { signal: AbortSignal.any([signal, wake.signal]), ref: false }).catch(() => undefined);
      forget();
    }
  }

  async once(): Promise<void> {
    // an answer that was given up may still be under way: asking anew would pile requests up on a server that is away
    this.#pending ??= this.#options.read().finally(() => (this.#pending = undefined));
    this.#pending.catch(() => undefined);
    const part = await readPart(this.#options.away, () => this.#pending!);
    const before = this.#seen;
    if (part.ok) this.#seen = { state: 'seen', at: Date.now(), value: part.value };
    else {
      const { code, message, cure } = part;
      const last = before.state === 'seen' ? { at: before.at, value: before.value } : before.state === 'away' ? before.last : null;
      this.#seen = { state: 'away', since: before.state === 'away' ? before.since : Date.now(), code, message, cure, last };
    }
  }
}
