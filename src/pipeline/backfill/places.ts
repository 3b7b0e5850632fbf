import { PLACE_BYTES } from './chunk.ts';

/**
 * Which rows of a chunk are no longer where they were: indexes of the places in `before` that `now` lacks.
 *
 * A (ctid, xmin) pair that is still visible is the very row version that was read: a place is used again only by a
 * later transaction, and the transaction of this xmin had ended when the chunk was read. What is new in `now` came
 * after the barrier, so the stream carries it.
 */
export function vanished(before: Buffer, now: Buffer): number[] {
  // Both come in physical order, so in the usual case this is one comparison of memory.
  if (before.equals(now)) return [];
  const there = new Set<string>();
  for (let at = 0; at < now.length; at += PLACE_BYTES) there.add(now.toString('latin1', at, at + PLACE_BYTES));
  const gone: number[] = [];
  for (let at = 0; at < before.length; at += PLACE_BYTES) {
    if (!there.has(before.toString('latin1', at, at + PLACE_BYTES))) gone.push(at / PLACE_BYTES);
  }
  return gone;
}
