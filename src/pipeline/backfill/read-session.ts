import type pg from 'pg';
import { DifyEsError } from '../../core/errors.ts';
import type { Cells } from '../../core/cells.ts';
import { CopyQuery } from './copy-query.ts';
import type { Slabs } from './slabs.ts';

/**
 * The advisory lock (classid, objid) of this database that keeps backfill and cleanup-pg apart: every session that
 * reads for a backfill holds it shared, cleanup-pg takes it exclusively. 0x44494659 is `DIFY`.
 */
export const BACKFILL_LOCK = [0x4449_4659, 1] as const;

/**
 * For reading: row_security off makes a policy that would hide rows an error instead of silently missing rows; no
 * parallel workers, since a chunk is small; a lock_timeout, because a statement that queues behind an ALTER TABLE would
 * keep its Kafka transaction, and with it the consumers, waiting.
 */
const SETTINGS = `SET row_security = off; SET max_parallel_workers_per_gather = 0; SET lock_timeout = '5s'; SET statement_timeout = 0;
  SET default_transaction_isolation = 'read committed'`;

/** One connection that reads. After `dead` is true every call fails; open another. */
export class ReadSession {
  readonly #client: pg.Client;
  #dead = false;

  private constructor(client: pg.Client) {
    this.#client = client;
    const die = (): void => void (this.#dead = true);
    client.on('error', die);
    client.on('end', die);
  }

  /** Takes the shared advisory lock too; throws CLEANUP_RUNNING when cleanup-pg holds it. */
  static async open(connect: () => Promise<pg.Client>): Promise<ReadSession> {
    const session = new ReadSession(await connect());
    try {
      await session.#client.query(SETTINGS);
      const [lock] = await session.query(`SELECT pg_try_advisory_lock_shared(${BACKFILL_LOCK[0]}, ${BACKFILL_LOCK[1]})`);
      if (lock?.[0] !== true) throw new DifyEsError('CLEANUP_RUNNING', 'cleanup-pg is deleting from this database');
      return session;
    } catch (error) {
      session.close();
      throw error;
    }
  }

  get dead(): boolean {
    return this.#dead;
  }

  /** Rows as arrays of node-postgres values. */
  async query(text: string): Promise<readonly unknown[][]> {
    return (await this.#client.query({ text, rowMode: 'array' })).rows;
  }

  /**
   * The rows of a SELECT, each field as the server's binary form. 'overflow' when they hold more than `limitBytes`: the
   * session is then closed, since the server would send the rest first. The rows lie in `slabs`, where given.
   */
  async copy(select: string, fields: number, limitBytes: number, onRow: (cells: Cells) => void, slabs?: Slabs): Promise<number | 'overflow'> {
    const result = await this.#client.query(new CopyQuery(select, fields, limitBytes, onRow, slabs)).done;
    if (result === 'overflow') this.close();
    return result;
  }

  /** At once, also in the middle of an answer. Never throws. */
  close(): void {
    this.#dead = true;
    // With a query in progress node-postgres destroys the socket instead of waiting for the answer.
    this.#client.end().catch(() => undefined);
  }
}
