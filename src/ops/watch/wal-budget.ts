/** What the slot holds back, against what it may. Bytes; null: no limit. */
export interface WalSample {
  readonly atMs: number;
  readonly retainedBytes: number;
}

export interface WalLimits {
  /** max_slot_wal_keep_size of the server: beyond it the server gives the slot up by itself. */
  readonly serverBytes: number | null;
  /** WAL_BUDGET: beyond it the program acts (WAL_BUDGET_ACTION). */
  readonly budgetBytes: number | null;
}

export interface WalVerdict {
  /** `unlimited`: nothing keeps the slot from filling the disk. `near`: the backfill brakes. `past`: the action is due. */
  readonly level: 'ok' | 'near' | 'past' | 'unlimited';
  readonly retainedBytes: number;
  /** The lower of both limits. */
  readonly limitBytes: number | null;
  /** retained / limit; null without a limit. */
  readonly share: number | null;
  /** Growth over the samples; negative while the reader catches up. */
  readonly bytesPerSecond: number;
  /** Until the limit at this rate; null when it does not grow or has no limit. */
  readonly secondsLeft: number | null;
}

const NEAR = 0.7;

/**
 * Judges the newest sample; the ones before it (oldest first, any spacing) only give the growth.
 */
export function judgeWal(samples: readonly WalSample[], { serverBytes, budgetBytes }: WalLimits): WalVerdict {
  const newest = samples.at(-1) ?? { atMs: 0, retainedBytes: 0 };
  const limitBytes = serverBytes === null ? budgetBytes : budgetBytes === null ? serverBytes : Math.min(serverBytes, budgetBytes);
  const share = limitBytes === null ? null : newest.retainedBytes / limitBytes;
  const bytesPerSecond = growth(samples);
  const room = limitBytes === null ? null : limitBytes - newest.retainedBytes;
  return {
    level: share === null ? 'unlimited' : share >= 1 ? 'past' : share >= NEAR ? 'near' : 'ok',
    retainedBytes: newest.retainedBytes,
    limitBytes,
    share,
    bytesPerSecond,
    secondsLeft: room !== null && room > 0 && bytesPerSecond > 0 ? room / bytesPerSecond : null,
  };
}

function growth(samples: readonly WalSample[]): number {
  const first = samples[0];
  const last = samples.at(-1);
  if (!first || !last || last.atMs <= first.atMs) return 0;
  return ((last.retainedBytes - first.retainedBytes) * 1000) / (last.atMs - first.atMs);
}
