import { TABLES } from '../../../core/contracts.ts';
import { query, type Queryable } from '../../../pipeline/capture/pg-connection.ts';

/**
 * An upper bound of the indices that the rows will make: tenants times months, for each table. From the planner's own
 * statistics and the ends of one index, so that it costs nothing on a table of any size; null where nothing was analysed.
 */
export async function expectedIndices(db: Queryable, schema: string): Promise<number | null> {
  const tables = await query<{ tenants: number }>(
    db,
    `SELECT CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * greatest(c.reltuples, 0) ELSE s.n_distinct END::float8 AS tenants
       FROM pg_stats s JOIN pg_class c ON c.relname = s.tablename JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schemaname
      WHERE s.schemaname = $1 AND s.tablename = ANY ($2) AND s.attname = 'tenant_id'`,
    [schema, TABLES],
  );
  const [span] = await query<{ months: number | null }>(
    db,
    `SELECT (max(hi) - min(lo))::int + 1 AS months FROM (
       SELECT extract(year FROM x.lo) * 12 + extract(month FROM x.lo) AS lo, extract(year FROM x.hi) * 12 + extract(month FROM x.hi) AS hi
         FROM (SELECT min(t::timestamp) AS lo, max(t::timestamp) AS hi
                 FROM pg_stats s, unnest(coalesce(s.histogram_bounds, s.most_common_vals)::text::text[]) AS t
                WHERE s.schemaname = $1 AND s.tablename = ANY ($2) AND s.attname = 'created_at' AND t !~ '(infinity|BC)') x) y`,
    [schema, TABLES],
  );
  if (tables.length === 0 || !span || span.months === null) return null;
  return tables.reduce((sum, { tenants }) => sum + Math.ceil(tenants), 0) * span.months;
}
