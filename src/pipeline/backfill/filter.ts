import { TABLES, type TableName } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { isUuid } from '../../core/row-key.ts';
import type { BackfillFilter } from '../../core/state.ts';

const DATE_OR_TIME = /^\d{4}-\d{2}-\d{2}(?:[ T](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?)?$/;

/**
 * The same filter always in the same form, since a resumed run is recognised by comparing filters. Its values become
 * part of SQL text (COPY takes no parameters), so they are proven harmless here: a uuid and a date, nothing else.
 */
export function normalizeFilter(filter: BackfillFilter): BackfillFilter {
  const tenantIds = [...new Set(filter.tenantIds.map((id) => id.toLowerCase()))].sort();
  const badTenant = tenantIds.find((id) => !isUuid(id));
  if (badTenant !== undefined) throw new DifyEsError('USAGE', `not a tenant id: ${JSON.stringify(badTenant)}`);
  return { tables: TABLES.filter((table) => filter.tables.includes(table)), tenantIds, from: normalizeDate(filter.from), before: normalizeDate(filter.before) };
}

function normalizeDate(text: string | null): string | null {
  if (text === null) return null;
  if (!DATE_OR_TIME.test(text) || !isDay(text.slice(0, 10))) throw new DifyEsError('USAGE', `not a date: ${JSON.stringify(text)}`);
  return text.replace('T', ' ');
}

/** Date.parse makes the 2nd of March of the 30th of February. */
function isDay(text: string): boolean {
  const time = Date.parse(text);
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text);
}

/** Both must come from normalizeFilter. */
export function sameFilter(a: BackfillFilter, b: BackfillFilter): boolean {
  const identity = (f: BackfillFilter): string => JSON.stringify([f.tables, f.tenantIds, f.from, f.before]);
  return identity(a) === identity(b);
}

/** True for a run that reads whole tables. Only such a run can satisfy BACKFILL REQUIRED. */
export function readsWholeTables(filter: BackfillFilter): boolean {
  return filter.tenantIds.length === 0 && filter.from === null && filter.before === null;
}

/** The condition of a normalized filter as SQL, or null where it lets every row pass. */
export function filterSql(filter: BackfillFilter): string | null {
  const conditions: string[] = [];
  if (filter.tenantIds.length > 0) conditions.push(`tenant_id = ANY ('{${filter.tenantIds.join(',')}}'::uuid[])`);
  if (filter.from !== null) conditions.push(`created_at >= '${filter.from}'::timestamp`);
  if (filter.before !== null) conditions.push(`created_at < '${filter.before}'::timestamp`);
  return conditions.length === 0 ? null : conditions.join(' AND ');
}

/** The error of a run that is open with other filters: two runs share the transactional ids and the control keys. */
export function otherRunOpen(open: BackfillFilter): DifyEsError {
  const dates = [open.from === null ? '' : ` from ${open.from}`, open.before === null ? '' : ` before ${open.before}`].join('');
  const tables: readonly TableName[] = open.tables;
  return new DifyEsError('RUN_OPEN', `a run over ${tables.join(', ')}${open.tenantIds.length > 0 ? ` for ${open.tenantIds.length} tenants` : ''}${dates} is open`);
}
