import type { Lsn } from './lsn.ts';

/**
 * The external version of a document: `epoch * 2^52 + position`.
 *
 * Elasticsearch keeps it as a signed 64-bit number. It is a bigint here and raw digits on the wire: a JS number would
 * round it above 2^53, so two neighbouring commits would tie and the older could win. For the same reason the
 * `_version` in an answer, which the client parses as a JS number, is never read back for a decision.
 *
 * Epochs start at 1, so every version below 2^52 was written by Dify itself (internal versioning, 1, 2, 3 …).
 */
export type RowVersion = bigint & { readonly __brand: 'RowVersion' };

const POSITION_BITS = 52n;
const POSITION_LIMIT = 1n << POSITION_BITS;
const EPOCH_LIMIT = 1n << 11n;

/** The lowest version this program ever writes; below it a document is Dify's own. */
export const FIRST_OWN_VERSION = POSITION_LIMIT as RowVersion;

/**
 * A streamed change takes the commit LSN of its transaction, never the change's own LSN: an INSERT is logged before
 * its unique check has waited for the DELETE of the same id, so it may come with the lower LSN of the two.
 */
export function versionOfCommit(epoch: number, commitLsn: Lsn): RowVersion {
  return compose(epoch, commitLsn);
}

/**
 * A row read by the backfill behind the barrier L takes L - 1. What the read did not see has a commit LSN >= L; with L
 * itself it would collide with the very next commit.
 */
export function versionOfBackfill(epoch: number, barrier: Lsn): RowVersion {
  return compose(epoch, (barrier - 1n) as Lsn);
}

function compose(epoch: number, position: bigint): RowVersion {
  if (!Number.isInteger(epoch) || epoch < 1 || BigInt(epoch) >= EPOCH_LIMIT) throw new RangeError(`epoch out of range: ${epoch}`);
  if (position < 0n || position >= POSITION_LIMIT) throw new RangeError(`position out of range: ${position}`);
  return ((BigInt(epoch) << POSITION_BITS) | position) as RowVersion;
}

export function splitVersion(version: RowVersion): { epoch: number; position: Lsn } {
  return { epoch: Number(version >> POSITION_BITS), position: (version & (POSITION_LIMIT - 1n)) as Lsn };
}

/** From raw digits (a Kafka header, a command line). Throws a RangeError on anything else. */
export function parseVersion(digits: string): RowVersion {
  if (!/^[0-9]{1,19}$/.test(digits)) throw new RangeError('not a row version');
  const version = BigInt(digits);
  if (version >= 1n << 63n) throw new RangeError('not a row version');
  return version as RowVersion;
}
