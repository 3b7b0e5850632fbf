import pg from 'pg';
import { CLEANUP_MARKER } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { BACKFILL_LOCK } from '../../pipeline/backfill/read-session.ts';
import { sameStamp, stampSql, type TableSource } from '../../pipeline/backfill/table-source.ts';
import { connect, toPgError, type PgTarget } from '../../pipeline/capture/pg-connection.ts';
import { unfinishedSql, type Candidate, type Scope } from './candidates.ts';

/** A row that Dify holds is left alone rather than waited for: whoever waits for us would wait as long. */
const SETTINGS = { lock_timeout: '1000', row_security: 'off' } as const;
const STATEMENT_TIMEOUT_MS = 60_000;
/** lock_not_available, deadlock_detected: https://www.postgresql.org/docs/18/errcodes-appendix.html */
const BUSY = new Set(['55P03', '40P01']);

/**
 * The only place of this program that deletes from Dify's tables.
 *
 * It deletes on the very session that holds the exclusive lock against backfills and repairs: with the session the lock
 * is lost, and then nothing can be deleted any more.
 */
export class Deleter {
  readonly #client: pg.Client;
  readonly #schema: string;

  private constructor(client: pg.Client, schema: string) {
    this.#client = client;
    this.#schema = schema;
  }

  /** Throws CLEANUP_REFUSED while a backfill, a repair or another clean-up holds the lock. */
  static async open(target: PgTarget, schema: string): Promise<Deleter> {
    const deleter = new Deleter(await connect(target, { role: 'cleanup-pg', statementTimeoutMs: STATEMENT_TIMEOUT_MS, settings: SETTINGS }), schema);
    try {
      const [lock] = await deleter.#query(`SELECT pg_try_advisory_lock(${BACKFILL_LOCK[0]}, ${BACKFILL_LOCK[1]})`);
      if (lock?.[0] !== true) throw new DifyEsError('CLEANUP_REFUSED', 'a backfill, a repair or another clean-up is running on this database');
      return deleter;
    } catch (error) {
      await deleter.close();
      throw error;
    }
  }

  /**
   * Deletes those of the rows that are still the versions that were looked at, in one marked transaction; returns their
   * ids. `altered`: the table is no longer the one that `source` describes, and nothing was deleted. Rows that somebody
   * holds stay.
   */
  async delete(source: TableSource, rows: readonly Candidate[], scope: Scope, runId: string): Promise<ReadonlySet<string> | 'altered'> {
    if (rows.length === 0) return new Set();
    try {
      return await this.#transaction(source, rows, scope, runId);
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || !BUSY.has(error.code ?? '')) throw toPgError(error, 'query');
    }
    // one of them is held: the halves tell which
    if (rows.length === 1) return new Set();
    const middle = rows.length >> 1;
    const first = await this.delete(source, rows.slice(0, middle), scope, runId);
    if (first === 'altered') return first;
    const second = await this.delete(source, rows.slice(middle), scope, runId);
    // what the first half deleted is deleted: the caller looks at the table anew and finds it gone
    return second === 'altered' ? second : new Set([...first, ...second]);
  }

  async #transaction(source: TableSource, rows: readonly Candidate[], scope: Scope, runId: string): Promise<ReadonlySet<string> | 'altered'> {
    await this.#query('BEGIN ISOLATION LEVEL READ COMMITTED');
    try {
      // Before the first change: the reader believes only a marker that nothing precedes.
      await this.#query('SELECT pg_logical_emit_message(true, $1, $2)', [CLEANUP_MARKER, runId]);
      // From here on no ALTER TABLE can come: a new column with a default changes rows and leaves their xmin as it is.
      await this.#query(`LOCK TABLE ONLY ${source.name} IN ROW EXCLUSIVE MODE`);
      const [stamp] = await this.#query(`SELECT ${stampSql(source.name)}`);
      if (!sameStamp({ relfilenode: String(stamp?.[0]), columns: String(stamp?.[1]) }, source.stamp)) {
        await this.#query('ROLLBACK');
        return 'altered';
      }
      const deleted = await this.#query(deleteSql(source, this.#schema), [rows.map(({ id }) => id), rows.map(versionText), scope.tenantId, scope.before]);
      await this.#query('COMMIT');
      return new Set(deleted.map(([id]) => String(id)));
    } catch (error) {
      await this.#query('ROLLBACK').catch(() => undefined);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#client.end().catch(() => undefined);
  }

  async #query(text: string, values: unknown[] = []): Promise<unknown[][]> {
    return (await this.#client.query<unknown[]>({ text, values, rowMode: 'array' })).rows;
  }
}

const versionText = ({ id, xmin }: Candidate): string => `${id} ${xmin}`;

/**
 * The version is a condition on the row itself: when a row was changed by a transaction that this statement had to wait
 * for, READ COMMITTED evaluates the condition again on the new version, whose xmin is another one
 * (https://www.postgresql.org/docs/18/transaction-iso.html#XACT-READ-COMMITTED). That covers its status too. The run of a
 * node or log is another row, which may have gone on since it was looked at, so it is looked at once more.
 */
function deleteSql({ table, name, idType }: TableSource, schema: string): string {
  return `DELETE FROM ONLY ${name} t WHERE id = ANY ($1::${idType}[]) AND id::text || ' ' || xmin::text = ANY ($2::text[])
    AND tenant_id = $3::${idType} AND created_at < $4::timestamp AND NOT ${unfinishedSql(schema, table)} RETURNING id::text`;
}
