import { formatLsn, maxLsn, parseLsn, type Lsn } from '../../core/lsn.ts';
import type { EpochRecord } from '../../core/state.ts';

/** What the source says of itself: IDENTIFY_SYSTEM on the replication connection, and the slot once we hold it. */
export interface ObservedSource {
  readonly systemIdentifier: string;
  readonly timeline: number;
  /** The end of its flushed WAL. */
  readonly currentLsn: Lsn;
  readonly slot: string;
  readonly slotConfirmedLsn: Lsn;
}

export interface EpochDecision {
  readonly epoch: number;
  /** null: the same source as before. */
  readonly changed: null | 'first' | 'new-epoch' | 'source-restored';
  /** The slot was created again or moved by somebody else: changes in between will never come. */
  readonly slotMoved: boolean;
  /** For a person, one line each. */
  readonly reasons: readonly string[];
  /** What is to be recorded before the first record of this connection; equal to the old one when nothing changed. */
  readonly highWaterLsn: Lsn;
}

/**
 * Compares the source with what is recorded. Anything but (changed: null, slotMoved: false) means BACKFILL REQUIRED for
 * all tables, since changes may be missing, and that open runs are void.
 */
export function decideEpoch(recorded: EpochRecord | undefined, observed: ObservedSource): EpochDecision {
  if (!recorded) {
    return { epoch: 1, changed: 'first', slotMoved: false, reasons: ['no epoch is recorded yet'], highWaterLsn: observed.slotConfirmedLsn };
  }
  const highWater = parseLsn(recorded.highWaterLsn);
  const identity = identityChanges(recorded, observed);
  if (identity.length > 0) return nextEpoch(recorded, observed, 'new-epoch', identity);
  if (observed.currentLsn < highWater) {
    const reason = `the source ends at ${formatLsn(observed.currentLsn)}, below ${recorded.highWaterLsn}, which it has sent before: it was restored`;
    return nextEpoch(recorded, observed, 'source-restored', [reason]);
  }
  const reasons: string[] = [];
  if (recorded.slot !== observed.slot) reasons.push(`the slot is ${observed.slot}, and was ${recorded.slot}`);
  else if (observed.slotConfirmedLsn > highWater) {
    reasons.push(`the slot stands at ${formatLsn(observed.slotConfirmedLsn)}, above ${recorded.highWaterLsn}, which was the last to be confirmed`);
  }
  return { epoch: recorded.epoch, changed: null, slotMoved: reasons.length > 0, reasons, highWaterLsn: reasons.length > 0 ? maxLsn(highWater, observed.slotConfirmedLsn) : highWater };
}

function identityChanges(recorded: EpochRecord, observed: ObservedSource): string[] {
  const changes: string[] = [];
  if (recorded.systemIdentifier !== observed.systemIdentifier) changes.push(`the system identifier is ${observed.systemIdentifier}, and was ${recorded.systemIdentifier}`);
  if (recorded.timeline !== observed.timeline) changes.push(`the timeline is ${observed.timeline}, and was ${recorded.timeline}`);
  return changes;
}

/** The source is another branch though nothing else tells: see KnownCommit. */
export function outgrownEpoch(recorded: EpochRecord, observed: ObservedSource): EpochDecision {
  const reason = `its log has no commit that ends at ${recorded.lastCommit?.endLsn}, which it has sent before: it was restored and has grown on`;
  return nextEpoch(recorded, observed, 'source-restored', [reason]);
}

/** Its versions must lie above all of the former epoch, whatever the LSNs say, and its high-water mark begins anew. */
function nextEpoch(recorded: EpochRecord, observed: ObservedSource, changed: 'new-epoch' | 'source-restored', reasons: string[]): EpochDecision {
  return { epoch: recorded.epoch + 1, changed, slotMoved: recorded.slot !== observed.slot, reasons, highWaterLsn: observed.slotConfirmedLsn };
}

export function epochRecord(decision: EpochDecision, observed: ObservedSource, at: Date): EpochRecord {
  return {
    epoch: decision.epoch,
    systemIdentifier: observed.systemIdentifier,
    timeline: observed.timeline,
    highWaterLsn: formatLsn(decision.highWaterLsn),
    slot: observed.slot,
    at: at.toISOString(),
  };
}
