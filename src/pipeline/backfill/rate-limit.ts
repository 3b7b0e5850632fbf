/** Tokens are rows. Pure: the caller says what time it is and does the waiting. */
export class RateLimit {
  readonly #rowsPerSecond: number;
  #free = 0;
  #at: number | undefined;

  /** `rowsPerSecond` 0: no limit. */
  constructor(rowsPerSecond: number) {
    this.#rowsPerSecond = rowsPerSecond;
  }

  /** Rows that were read. May go into debt: what a chunk holds is known only afterwards. */
  spend(rows: number): void {
    this.#free -= rows;
  }

  /** Milliseconds to wait before the next chunk; what is not used within a second is lost, so there are no bursts. */
  waitMs(nowMs: number): number {
    if (this.#rowsPerSecond <= 0) return 0;
    if (this.#at !== undefined) this.#free = Math.min(this.#rowsPerSecond, this.#free + ((nowMs - this.#at) / 1000) * this.#rowsPerSecond);
    this.#at = nowMs;
    return this.#free >= 0 ? 0 : Math.ceil((-this.#free / this.#rowsPerSecond) * 1000);
  }
}
