import { isUuid } from '../../core/row-key.ts';
import { pick } from './sample-plan.ts';
import type { OpenTable, Source } from './source.ts';

/** Up to here rows are counted instead of estimated, and a tenant's ids sorted at random. */
const SMALL_BLOCKS = 2000;
const SMALL_ROWS = 1_000_000;

/** Rows of the table, or of what the condition lets pass: exact for small ones, else the planner's estimate. */
export async function estimateRows(source: Source, { source: { name }, size }: OpenTable, condition: string | null): Promise<number> {
  if (size.blocks <= SMALL_BLOCKS) {
    const [row] = await source.query(`SELECT count(*)::float8 FROM ONLY ${name}${condition === null ? '' : ` WHERE ${condition}`}`);
    return Number(row?.[0]);
  }
  const [plan] = await source.query(`EXPLAIN (FORMAT JSON) SELECT 1 FROM ONLY ${name}${condition === null ? '' : ` WHERE ${condition}`}`);
  return Number((plan?.[0] as { Plan: { 'Plan Rows': number } }[])[0]!.Plan['Plan Rows']);
}

/**
 * About `count` ids, each row with the same chance, without reading the table: pages are drawn by TABLESAMPLE SYSTEM,
 * which looks at no page it did not draw, and of each about two rows are kept, so that rows written together do not
 * make up the sample.
 */
export async function sampleIds(source: Source, table: OpenTable, count: number, condition: string | null): Promise<string[]> {
  if (count === 0) return [];
  const rows = Math.max(1, await estimateRows(source, table, condition));
  const { name } = table.source;
  const where = condition === null ? '' : ` AND ${condition}`;
  if (condition !== null && rows <= SMALL_ROWS) return ids(await source.query(`SELECT id::text FROM ONLY ${name} WHERE true${where} ORDER BY random() LIMIT ${count}`));

  const perPage = rows / Math.max(1, table.size.blocks);
  let keep = Math.min(1, 2 / perPage);
  let percent = Math.min(100, (100 * 2 * count) / (perPage * keep * Math.max(1, table.size.blocks)));
  if (percent === 100) keep = Math.min(1, (2 * count) / rows);
  for (;;) {
    const drawn = ids(await source.query(`SELECT id::text FROM ${name} TABLESAMPLE SYSTEM (${percent.toFixed(6)}) WHERE random() < ${keep.toFixed(9)}${where}`));
    if (drawn.length >= count || (percent === 100 && keep === 1)) return pick(drawn, count);
    // the estimate was too high, or luck was bad
    if (percent < 100) percent = Math.min(100, percent * 4);
    else keep = Math.min(1, keep * 4);
  }
}

/**
 * All tenants of the table, by skipping from one to the next along an index that begins with tenant_id (a few pages for
 * each). Null where there is no such index and the table is not small: it would have to be read whole.
 */
export async function tenantsOf(source: Source, { source: { name }, size }: OpenTable): Promise<string[] | null> {
  const [indexed] = await source.query(
    `SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
      WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND i.indpred IS NULL AND a.attname = 'tenant_id')`,
    [name],
  );
  if (indexed?.[0] !== true && size.blocks > SMALL_BLOCKS) return null;
  return ids(
    await source.query(
      `WITH RECURSIVE t (tenant_id) AS (
         (SELECT tenant_id FROM ONLY ${name} ORDER BY tenant_id LIMIT 1)
         UNION ALL
         SELECT (SELECT n.tenant_id FROM ONLY ${name} n WHERE n.tenant_id > t.tenant_id ORDER BY n.tenant_id LIMIT 1) FROM t WHERE t.tenant_id IS NOT NULL)
       SELECT tenant_id::text FROM t WHERE tenant_id IS NOT NULL`,
    ),
  );
}

/** One id of each of these tenants that has rows. To be asked only where tenantsOf had an answer. */
export async function oneIdOfEach(source: Source, { source: { name } }: OpenTable, tenantIds: readonly string[]): Promise<string[]> {
  return ids(
    await source.query(
      `SELECT r.id::text FROM unnest($1::text[]) AS t (tenant_id) CROSS JOIN LATERAL (SELECT id FROM ONLY ${name} WHERE tenant_id = t.tenant_id::uuid LIMIT 1) r`,
      [tenantIds.filter(isUuid)],
    ),
  );
}

function ids(rows: readonly unknown[][]): string[] {
  return rows.map(([id]) => String(id));
}
