import { setTimeout as sleep } from 'node:timers/promises';
import { DifyEsError } from '../../core/errors.ts';
import { esError, failureOf } from './elastic-errors.ts';
import type { Failure } from './elastic-errors.ts';

/** Elasticsearch is away or does not take something; the sink waits and goes on by itself. */
export interface Trouble {
  /** HTTP status, 0 without an answer. */
  readonly status: number;
  /** Elasticsearch's error type, or the client's error name. */
  readonly type: string;
  /** How many attempts have failed in a row. */
  readonly attempt: number;
  readonly waitMs: number;
  /** Documents that wait for it. */
  readonly items: number;
}

export interface Waiting {
  /** Keeps the membership in the consumer group; throws when the group is rebalancing. Called about once a second. */
  heartbeat(): Promise<void>;
  /** Ends all waiting; a request under way gets a little time to be answered. */
  readonly signal: AbortSignal;
  onTrouble(trouble: Trouble): void;
  /** The first success after trouble. */
  onRecovered(): void;
  readonly pace: Pace;
}

/** Thrown when the signal ended the waiting. What was settled before stays settled. */
export class Interrupted extends Error {
  constructor() {
    super('interrupted');
    this.name = 'Interrupted';
  }
}

const HEARTBEAT_MS = 1_000;
const GRACE_MS = 3_000;

/** How long to wait before the second attempt, and before any. */
export interface Pace {
  readonly firstMs: number;
  readonly longestMs: number;
}

export const DEFAULT_PACE: Pace = { firstMs: 100, longestMs: 10_000 };

/** Doubles up to the longest wait; the jitter keeps the partitions of all sinks from knocking at the same moment. */
export function backOffMs(attempt: number, random: number, pace: Pace): number {
  const full = Math.min(pace.longestMs, pace.firstMs * 2 ** Math.min(attempt - 1, 20));
  return Math.round(full * (0.5 + random / 2));
}

/** The waiting of one batch: one attempt counter, heartbeats, and the way out. */
export class Patience {
  private readonly waiting: Waiting;
  private failed = 0;

  constructor(waiting: Waiting) {
    this.waiting = waiting;
  }

  /**
   * Waits for `request`, with heartbeats. When the signal comes it has GRACE_MS to end, since its answer tells what may
   * be committed; then it is given up through the signal that it was handed. A failed heartbeat is thrown when it has
   * ended: until then nobody else may be sent what it may still carry out.
   */
  async during<T>(request: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal, heartbeat } = this.waiting;
    if (signal.aborted) throw new Interrupted();
    const giveUp = new AbortController();
    let grace: NodeJS.Timeout | undefined;
    const onAbort = (): void => void (grace = setTimeout(() => giveUp.abort(), GRACE_MS));
    signal.addEventListener('abort', onAbort, { once: true });
    let lost: { error: unknown } | undefined;
    const beat = setInterval(() => void heartbeat().catch((error: unknown) => (lost ??= { error })), HEARTBEAT_MS);
    try {
      const result = await request(giveUp.signal);
      if (lost) throw (lost as { error: unknown }).error;
      return result;
    } finally {
      clearInterval(beat);
      clearTimeout(grace);
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Waits before the next attempt. Throws Interrupted at once when the signal comes. */
  async pause(failure: Pick<Failure, 'status' | 'type'>, items: number): Promise<void> {
    const attempt = ++this.failed;
    const waitMs = backOffMs(attempt, Math.random(), this.waiting.pace);
    this.waiting.onTrouble({ status: failure.status, type: failure.type, attempt, waitMs, items });
    const until = Date.now() + waitMs;
    for (let left = waitMs; left > 0; left = until - Date.now()) {
      await sleep(Math.min(left, HEARTBEAT_MS), undefined, { signal: this.waiting.signal }).catch(() => {
        throw new Interrupted();
      });
      await this.waiting.heartbeat();
    }
  }

  recovered(): void {
    if (this.failed > 0) this.waiting.onRecovered();
    this.failed = 0;
  }

  /** A small request that must succeed: repeated until it does. Throws the errors that no waiting cures. */
  async insist<T>(request: (signal: AbortSignal) => Promise<T>): Promise<T> {
    for (;;) {
      const answer = await this.during((signal) => request(signal).then((value) => ({ value }), (error: unknown) => ({ failure: curable(error), error })));
      if ('value' in answer) {
        this.recovered();
        return answer.value;
      }
      if (answer.failure.kind === 'aborted') throw new Interrupted();
      if (answer.failure.kind !== 'lost' && answer.failure.kind !== 'blocked') throw esError(answer.error);
      await this.pause(answer.failure, 0);
    }
  }
}

/** Also of a call that has made its own error of the client's already. */
function curable(error: unknown): Failure {
  if (error instanceof DifyEsError && error.code === 'ES_UNREACHABLE') return { kind: 'lost', status: 0, type: error.code };
  return failureOf(error);
}
