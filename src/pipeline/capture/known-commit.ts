import { parseLsn, type Lsn } from '../../core/lsn.ts';
import type { EpochRecord } from '../../core/state.ts';

/**
 * Whether the log that comes in is the one that was read before. A source that was put back from a copy has the same
 * identifiers; once it has outgrown the high-water mark its LSNs tell nothing any more. But its slot stands where the
 * copy's stood, so it sends again what lies behind that, and the commit that was published last is not among it.
 */
export class KnownCommit {
  #awaited: { readonly endLsn: Lsn; readonly timeMs: number } | null = null;
  #isMissing = false;

  /** Nothing is awaited from a slot that stands behind the commit: it is not sent again. */
  constructor(recorded: EpochRecord['lastCommit'], slotConfirmed: Lsn) {
    if (!recorded) return;
    const endLsn = parseLsn(recorded.endLsn);
    if (endLsn > slotConfirmed) this.#awaited = { endLsn, timeMs: recorded.timeMs };
  }

  /** The log has passed the place of the commit, and it was not there. */
  get isMissing(): boolean {
    return this.#isMissing;
  }

  commit(endLsn: Lsn, timeMs: number): void {
    if (endLsn === this.#awaited?.endLsn && timeMs === this.#awaited.timeMs) this.#awaited = null;
    else this.position(endLsn);
  }

  /** The server has sent everything up to here. */
  position(lsn: Lsn): void {
    if (this.#awaited && lsn >= this.#awaited.endLsn) this.#isMissing = true;
  }

  /** After a new epoch has begun. */
  forget(): void {
    this.#awaited = null;
    this.#isMissing = false;
  }
}
