/** How many bytes the next bulk may have. Grows by a step while all goes well, halves when the cluster is under pressure. */
export interface BulkSize {
  readonly bytes: number;
  readonly maxBytes: number;
}

export interface BulkObservation {
  readonly sentBytes: number;
  readonly tookMs: number;
  /** Any item or the whole request was answered with 429. */
  readonly rejected: boolean;
  /** 413: the server, or a proxy before it, takes less than this. */
  readonly tooLarge: boolean;
}

export const MIN_BULK_BYTES = 256 * 1024;
const STEP_BYTES = 512 * 1024;
/** A bulk that takes longer delays every record behind it, and comes near the client's time-out. */
const SLOW_MS = 5_000;

/** Starts at half, so that a small cluster is not met with the largest request first. */
export function firstBulkSize(maxBytes: number): BulkSize {
  return { bytes: Math.max(MIN_BULK_BYTES, Math.floor(maxBytes / 2)), maxBytes: Math.max(MIN_BULK_BYTES, maxBytes) };
}

/** Additive up, multiplicative down. A bulk much smaller than allowed says nothing about larger ones. */
export function nextBulkSize(size: BulkSize, seen: BulkObservation): BulkSize {
  if (seen.tooLarge) {
    // What was refused is above the server's limit for good: never ask for it again.
    const maxBytes = Math.max(MIN_BULK_BYTES, Math.min(size.maxBytes, Math.floor(seen.sentBytes / 2)));
    return { bytes: Math.min(size.bytes, maxBytes), maxBytes };
  }
  if (seen.rejected || seen.tookMs > SLOW_MS) return { ...size, bytes: Math.max(MIN_BULK_BYTES, Math.floor(size.bytes / 2)) };
  if (seen.sentBytes < size.bytes / 2) return size;
  return { ...size, bytes: Math.min(size.maxBytes, size.bytes + STEP_BYTES) };
}
