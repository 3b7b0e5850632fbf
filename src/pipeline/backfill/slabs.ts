/** Rows of a chunk lie in slabs of this size, larger ones in one of their own. */
export const SLAB_BYTES = 1 << 20;
/** More than a chunk takes; what a chunk of huge rows took is given back. */
const KEPT = 12;

/**
 * The memory that chunks are read into, used for one after the other. Made anew for each, it is what makes the collector
 * run: 640 MB of rows cost 92 full collections, since memory outside of its heap counts against it until it has looked.
 */
export class Slabs {
  #idle: Buffer[] = [];
  #lent: Buffer[] = [];

  /** At least so many bytes, of any content. */
  take(bytes: number): Buffer {
    const slab = bytes <= SLAB_BYTES ? (this.#idle.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES)) : Buffer.allocUnsafeSlow(bytes);
    this.#lent.push(slab);
    return slab;
  }

  /** Takes back all that was lent: what lies in it will be overwritten. */
  recycle(): void {
    this.#idle = [...this.#idle, ...this.#lent.filter((slab) => slab.length === SLAB_BYTES)].slice(0, KEPT);
    this.#lent = [];
  }
}
