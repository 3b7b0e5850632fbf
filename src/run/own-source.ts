import type { Config } from '../config/config.ts';
import { TABLES } from '../core/contracts.ts';
import { DifyEsError } from '../core/errors.ts';
import { connect, query } from '../pipeline/capture/pg-connection.ts';
import { pgTarget } from './connections.ts';

/**
 * Throws CONFIG_INVALID where DB_DATABASE or DB_SCHEMA name something else than what the reader reads. A missing table
 * is no error elsewhere, since older releases of Dify lack one: with a wrong schema every table would be "not in this
 * release", a backfill of nothing would settle BACKFILL REQUIRED, and every row looked up again would count as deleted.
 * The tables of another database of the same server would be published as if they were this one's.
 */
export async function requireOwnSource(config: Config): Promise<void> {
  const { slot, schema } = config.postgres;
  const target = pgTarget(config);
  const client = await connect(target, { role: 'look' });
  try {
    const [found] = await query<{ tables: boolean; home: string | null }>(
      client,
      `SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = ANY($2)) AS tables,
         (SELECT database FROM pg_replication_slots WHERE slot_name = $3 AND database <> current_database()) AS home`,
      [schema, [...TABLES], slot],
    );
    if (found!.home !== null) throw new DifyEsError('CONFIG_INVALID', `the slot ${slot} belongs to database ${found!.home}, not to ${target.database}: check DB_DATABASE and CDC_SLOT`);
    if (!found!.tables) throw new DifyEsError('CONFIG_INVALID', `no table of Dify is in schema ${schema} of database ${target.database}: check DB_DATABASE and DB_SCHEMA`);
  } finally {
    await client.end().catch(() => undefined);
  }
}
