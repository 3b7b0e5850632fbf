import { TABLES } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { query, type Queryable } from '../../pipeline/capture/pg-connection.ts';
import { isOwnPublication } from '../setup/names.ts';
import { publicationsOf } from '../setup/source-state.ts';

/**
 * Throws CLEANUP_REFUSED where another installation publishes one of the tables. A clean-up is announced to the readers
 * of its own installation; another one's reader takes its deletes for Dify's, and removes the documents over there.
 */
export async function requireAlone(db: Queryable, { schema, publication }: { readonly schema: string; readonly publication: string }): Promise<void> {
  const others = new Set<string>();
  for (const table of TABLES) for (const { name, comment } of await publicationsOf(db, schema, table)) if (name !== publication && isOwnPublication(comment)) others.add(name);
  if (others.size === 0) return;
  const names = [...others].sort().map((name) => `"${name}"`).join(', ');
  throw new DifyEsError('CLEANUP_REFUSED', `the publication ${names} of another installation of dify-es has these tables too: its Elasticsearch would lose the documents of the deleted rows; run its \`dify-es teardown\` first, or say --force if it may lose them or has DELETE_POLICY=ignore`);
}

/** Throws PG_RIGHTS with the tables that the role may not delete from, before anything is announced. */
export async function requireDeleteRights(db: Queryable, schema: string): Promise<void> {
  const lacking = await query<{ name: string; role: string }>(
    db,
    `SELECT c.relname AS name, current_user AS role FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = ANY ($2) AND NOT has_table_privilege(c.oid, 'DELETE') ORDER BY 1`,
    [schema, TABLES],
  );
  if (lacking.length > 0) throw new DifyEsError('PG_RIGHTS', `the role ${lacking[0]!.role} may not delete from ${lacking.map(({ name }) => name).join(', ')}: the grant of DELETE, which only cleanup-pg needs, is missing`);
}
