import { Buffer } from 'node:buffer';

/**
 * Gives a buffer's memory back now, and not when the collector finds it: memory outside of V8's heap is what makes the
 * collector run, and what the process grows by when it runs late. Every view of the memory is empty from then on,
 * without an error, so only its owner may do this, when nobody will look at it again. Node's own pool, which others have
 * views of, and what is smaller is left alone.
 */
export function release(owned: Buffer): void {
  const { buffer: memory } = owned;
  if (memory instanceof ArrayBuffer && memory.byteLength > Buffer.poolSize) memory.transfer(0);
}
