import type { Config } from '../../config/config.ts';
import { DifyEsError } from '../../core/errors.ts';
import { connect, query, type Queryable } from '../../pipeline/capture/pg-connection.ts';
import { pgTarget } from '../../run/connections.ts';
import { setupSql } from './print-sql.ts';
import { readSource } from './source.ts';
import { sourceNames } from './setup.ts';

export interface Printable {
  readonly sql: string;
  /** Why it holds everything instead of what is left to do, or null. */
  readonly note: string | null;
}

/** For a role that is to be made; the name of the slot and of the publication by default. */
const NEW_ROLE = 'dify_es';

/** The SQL of setup for what the server lacks; for an untouched database when it cannot be looked at. */
export async function printableSetup(config: Config, wantedRole: string | null): Promise<Printable> {
  const names = sourceNames(config);
  const { result, note } = await lookOrNot(config, async (db) => {
    const state = await readSource(db, names);
    const role = wantedRole ?? (state.server.superuser ? NEW_ROLE : state.server.role);
    const roleExists = (await query(db, 'SELECT 1 FROM pg_roles WHERE rolname = $1', [role])).length > 0;
    return setupSql(state, { names, role, roleExists });
  });
  const role = wantedRole ?? (config.postgres.username === 'postgres' ? NEW_ROLE : config.postgres.username);
  return { sql: result ?? setupSql(null, { names, role, roleExists: false }), note };
}

/** The answer of the server, or why there is none: the role that would look may be the one that is to be made. */
export async function lookOrNot<T>(config: Config, look: (db: Queryable) => Promise<T>): Promise<{ result: T | null; note: string | null }> {
  try {
    const db = await connect(pgTarget(config), { role: 'print-sql', statementTimeoutMs: 10_000 });
    try {
      return { result: await look(db), note: null };
    } finally {
      await db.end();
    }
  } catch (error) {
    if (!(error instanceof DifyEsError) || error.code === 'INTERNAL') throw error;
    return { result: null, note: `the server could not be looked at, so this is for an untouched database: ${error.message}` };
  }
}
