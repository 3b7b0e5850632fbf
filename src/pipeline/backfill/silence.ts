/** What one look tells of another process of the run. */
export interface Sign {
  readonly memberId: string;
  /** The number of its last sign of life; undefined before its first. */
  readonly beat: number | undefined;
  /** Whether its session holds its lock in the database; null when the database could not be asked. */
  readonly locked: boolean | null;
}

export interface SilenceLimits {
  /** Between two looks. */
  readonly everyMs: number;
  /** So long without a sign of life while its session is there: it stands still, or its machine does. */
  readonly silentMs: number;
}

/** Looks without a sign of life and without a session: the process is dead, and its server has noticed. */
const UNLOCKED_LOOKS = 3;

interface Known {
  beat: number | undefined;
  silentMs: number;
  unlockedMs: number;
}

/**
 * Who is gone. Pure: the caller looks, and only after a sign of life of his own has come through, so that a Kafka that
 * was away, or his own standstill, does not count as the silence of others. A mistake costs that process its work and
 * nothing else, because whoever takes over fences it first.
 */
export class Silence {
  readonly #limits: SilenceLimits;
  readonly #known = new Map<string, Known>();
  #lookedMs: number | undefined;

  constructor(limits: SilenceLimits) {
    this.#limits = limits;
  }

  /** Those of `signs` that are gone. `nowMs` never goes back. */
  look(nowMs: number, signs: readonly Sign[]): string[] {
    const { everyMs, silentMs } = this.#limits;
    const passed = this.#lookedMs === undefined ? 0 : Math.min(nowMs - this.#lookedMs, 2 * everyMs);
    this.#lookedMs = nowMs;
    for (const memberId of this.#known.keys()) if (!signs.some((sign) => sign.memberId === memberId)) this.#known.delete(memberId);
    return signs.filter(({ memberId, beat, locked }) => {
      const known = this.#known.get(memberId);
      if (!known || known.beat !== beat) {
        this.#known.set(memberId, { beat, silentMs: 0, unlockedMs: 0 });
        return false;
      }
      known.silentMs += passed;
      known.unlockedMs = locked === false ? known.unlockedMs + passed : 0;
      return known.silentMs >= silentMs || known.unlockedMs >= UNLOCKED_LOOKS * everyMs;
    }).map(({ memberId }) => memberId);
  }
}
