import type { Lsn } from '../../core/lsn.ts';

interface Entry {
  lsn: Lsn;
  /** Commits only: when Kafka acknowledged the last record of it; null before. A position needs no acknowledgement. */
  durableAtMs: number | null;
  readonly kind: 'commit' | 'position';
}

export interface ConfirmedLsnOptions {
  /** Where the slot stands now: what lies below is confirmed already. */
  readonly start: Lsn;
  /** 3,000 on topics of replication factor 1: a commit is answered before its markers are on disk (docs/decisions/0018). Else 0. */
  readonly holdMs: number;
}

/**
 * Decides what PostgreSQL may forget, and nothing else does.
 *
 * The slot is confirmed up to the END of a commit record once every record of that transaction and of all before it is
 * committed in Kafka, and was so for `holdMs`. Confirming more loses what comes again only from PostgreSQL; confirming
 * less is harmless: the same changes come again, with the same versions.
 *
 * Feed it in the order of the connection. One object for one connection.
 */
export class ConfirmedLsn {
  readonly #holdMs: number;
  /** In the order of the log, from the oldest that may not be confirmed yet. */
  #entries: Entry[] = [];
  #inTransaction = false;
  #safe: Lsn;
  #barrier: Lsn | null = null;
  #confirmed: Lsn;

  constructor(options: ConfirmedLsnOptions) {
    this.#safe = options.start;
    this.#confirmed = options.start;
    this.#holdMs = options.holdMs;
  }

  get confirmed(): Lsn {
    return this.#confirmed;
  }

  /** True while a commit waits for Kafka or for its hold to end. */
  get isOutstanding(): boolean {
    return this.#entries.some((entry) => entry.kind === 'commit');
  }

  began(): void {
    this.#inTransaction = true;
  }

  /** A commit has been received; `endLsn` is the end of its record. */
  committed(endLsn: Lsn): void {
    this.#inTransaction = false;
    this.#entries.push({ lsn: endLsn, durableAtMs: null, kind: 'commit' });
  }

  /**
   * A keepalive: the server has sent every commit below this position. It counts once all commits that came before it
   * do, so that a slot whose tables are silent moves on with the rest of the server. Within a transaction it says
   * nothing that the commit will not say better.
   */
  position(lsn: Lsn): void {
    if (this.#inTransaction) return;
    const last = this.#entries.at(-1);
    if (last?.kind !== 'position') this.#entries.push({ lsn, durableAtMs: null, kind: 'position' });
    else if (last.lsn < lsn) last.lsn = lsn;
  }

  /** Kafka has committed every record of all transactions received up to the one that ends at `endLsn`. */
  durable(endLsn: Lsn, nowMs: number): void {
    const rest = this.#entries.findIndex((entry) => entry.kind === 'commit' && entry.lsn > endLsn);
    const settled = rest < 0 ? this.#entries : this.#entries.slice(0, rest);
    for (const entry of settled) if (entry.kind === 'commit') entry.durableAtMs ??= nowMs;
    // Of neighbours that became durable together only the last can ever be the answer.
    this.#entries = this.#entries.filter((entry, i) => entry.kind === 'position' || entry.durableAtMs === null || this.#entries[i + 1]?.durableAtMs !== entry.durableAtMs);
  }

  /**
   * Nothing beyond the beginning of this commit record may be confirmed, whatever is durable: the transaction has a
   * change that waits for something later in the log. null: no such change.
   */
  waitAt(commitLsn: Lsn | null): void {
    this.#barrier = commitLsn;
  }

  /** What may be confirmed now: the end of the WAL that PostgreSQL may forget. null: nothing beyond what it was told. */
  confirmable(nowMs: number): Lsn | null {
    let passed = 0;
    for (const entry of this.#entries) {
      if (entry.kind === 'commit' && (entry.durableAtMs === null || nowMs - entry.durableAtMs < this.#holdMs)) break;
      if (entry.lsn > this.#safe) this.#safe = entry.lsn;
      passed++;
    }
    if (passed > 0) this.#entries.splice(0, passed);
    const safe = this.#barrier !== null && this.#barrier < this.#safe ? this.#barrier : this.#safe;
    return safe > this.#confirmed ? safe : null;
  }

  /** PostgreSQL has been told. */
  told(lsn: Lsn): void {
    if (lsn > this.#confirmed) this.#confirmed = lsn;
  }
}
