/*
 * What Kafka may forget: the only file that decides it. An offset is committed when every record before it is settled:
 * applied, stale, expired, switched, or acknowledged by the dead-letter topic. Order of settling does not matter.
 */

/**
 * One batch of one partition. Offsets have gaps: compaction removes records, and control markers of transactions take
 * offsets that no consumer is given. `lastOffset` is that of the batch, markers included; without counting them a group
 * would never be at the end of its partition, and nothing would ever count as drained.
 */
export class OffsetLedger {
  private readonly offsets: readonly bigint[];
  private readonly settled: Uint8Array;
  private readonly lastOffset: bigint;
  private unsettledFrom = 0;

  /** `offsets` in the order of the batch, ascending. */
  constructor(offsets: readonly string[], lastOffset: string) {
    this.offsets = offsets.map(BigInt);
    this.settled = new Uint8Array(offsets.length);
    this.lastOffset = BigInt(lastOffset);
    for (let at = 1; at < offsets.length; at++) if (this.offsets[at]! <= this.offsets[at - 1]!) throw new RangeError('offsets of a batch must ascend');
    if (offsets.length > 0 && this.offsets.at(-1)! > this.lastOffset) throw new RangeError('the last offset of a batch lies before one of its records');
  }

  /** The record at this position of the batch is settled. Saying it twice is a fault of the caller. */
  settle(position: number): void {
    if (position < 0 || position >= this.settled.length || this.settled[position] === 1) throw new RangeError(`record ${position} of the batch settled twice, or not in it`);
    this.settled[position] = 1;
  }

  /**
   * The offset to commit, which is that of the first record to be read again; undefined when none may be committed. It
   * never goes back.
   */
  committable(): string | undefined {
    while (this.unsettledFrom < this.settled.length && this.settled[this.unsettledFrom] === 1) this.unsettledFrom++;
    if (this.unsettledFrom === this.settled.length) return (this.lastOffset + 1n).toString();
    return this.unsettledFrom === 0 ? undefined : this.offsets[this.unsettledFrom]!.toString();
  }

  get complete(): boolean {
    this.committable();
    return this.unsettledFrom === this.settled.length;
  }
}
