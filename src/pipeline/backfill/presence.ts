import { randomInt } from 'node:crypto';
import type pg from 'pg';
import { BACKFILL_LOCK, ReadSession } from './read-session.ts';

/**
 * The advisory lock by which PostgreSQL tells whether a process of a run is connected: the first key is that of
 * BACKFILL_LOCK, the second one is the process's own.
 */
export class Presence {
  readonly lock: number;
  readonly #connect: () => Promise<pg.Client>;
  #session: ReadSession;

  private constructor(connect: () => Promise<pg.Client>, session: ReadSession, lock: number) {
    this.#connect = connect;
    this.#session = session;
    this.lock = lock;
  }

  /** On a session that stays the caller's until it dies. */
  static async hold(session: ReadSession, connect: () => Promise<pg.Client>): Promise<Presence> {
    for (;;) {
      const lock = randomInt(BACKFILL_LOCK[1] + 1, 2 ** 31);
      if (await take(session, lock)) return new Presence(connect, session, lock);
    }
  }

  /** The locks that are held now, also ours after a server that was restarted has forgotten it. */
  async held(): Promise<ReadonlySet<number>> {
    if (this.#session.dead) {
      this.#session = await ReadSession.open(this.#connect);
      // Refused: the server has not noticed yet that our former session is dead, and holds it for us.
      await take(this.#session, this.lock);
    }
    const rows = await this.#session.query(
      `SELECT objid::bigint::text FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid = ${BACKFILL_LOCK[0]}
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    return new Set(rows.map(([objid]) => Number(objid)));
  }

  close(): void {
    this.#session.close();
  }
}

async function take(session: ReadSession, lock: number): Promise<boolean> {
  const [row] = await session.query(`SELECT pg_try_advisory_lock(${BACKFILL_LOCK[0]}, ${lock})`);
  return row?.[0] === true;
}
