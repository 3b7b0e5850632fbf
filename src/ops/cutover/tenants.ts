import type { Client } from '@elastic/elasticsearch';
import type { Config } from '../../config/config.ts';
import { TABLES } from '../../core/contracts.ts';
import { stateKeys, type ControlLog, type ReadyRecord, type SwitchedRecord } from '../../core/state.ts';
import { allRequired, allRuns } from '../../pipeline/backfill/run-record.ts';
import { connect } from '../../pipeline/capture/pg-connection.ts';
import { pgTarget } from '../../run/connections.ts';
import { readElastic, type IndexStatus } from '../status/elastic-status.ts';
import { Documents } from '../validate/documents.ts';
import { tenantsOf } from '../validate/sample.ts';
import { Source } from '../validate/source.ts';
import { backfillFinding } from './findings.ts';

export interface TenantRow {
  readonly tenantId: string;
  /** `open`: not looked at, the last look said no, or a backfill was required since. */
  readonly state: 'open' | 'ready' | 'switched';
  readonly since: string | null;
  readonly indices: number;
  readonly documents: number;
}

/** Every tenant of PostgreSQL and of Elasticsearch, by id. */
export async function listTenants(config: Config, platform: { readonly client: Client; readonly state: { readonly control: ControlLog } }): Promise<TenantRow[]> {
  const { control } = platform.state;
  await control.refresh();
  const { indices } = await readElastic(platform.client, config.elasticsearch.indexPrefix, null, { clusterName: '', version: '', nodes: 0 });
  return tenantRows(control, indices, await tenantsOfSource(config));
}

/** Pure but for the view: what is known of each tenant that has an index or a row. */
export function tenantRows(control: Pick<ControlLog, 'get' | 'entries'>, indices: readonly IndexStatus[], ofSource: ReadonlySet<string>): TenantRow[] {
  const byTenant = Map.groupBy(indices, ({ tenantId }) => tenantId);
  const all = new Set([...byTenant.keys(), ...ofSource]);
  const [runs, required] = [allRuns(control), allRequired(control)];
  return [...all].sort().map((tenantId): TenantRow => {
    const switched = control.get<SwitchedRecord>(stateKeys.switched(tenantId));
    const found = control.get<ReadyRecord>(stateKeys.ready(tenantId));
    const ready = backfillFinding(tenantId, runs, required).level === 'fail' ? undefined : found;
    const own = byTenant.get(tenantId) ?? [];
    return {
      tenantId, state: switched ? 'switched' : ready ? 'ready' : 'open', since: switched?.at ?? ready?.at ?? null,
      indices: own.length, documents: own.reduce((sum, { documents }) => sum + documents, 0),
    };
  });
}

/** Tenants that have rows in PostgreSQL, where an index tells it cheaply. */
export async function tenantsOfSource(config: Config): Promise<Set<string>> {
  const db = await connect(pgTarget(config), { role: 'cutover', statementTimeoutMs: 60_000 });
  try {
    const source = new Source({ scanning: db, lookup: db }, config.postgres.schema);
    const found = new Set<string>();
    for (const table of TABLES) {
      const open = await source.open(table);
      for (const tenant of (open && (await tenantsOf(source, open))) ?? []) found.add(tenant);
    }
    return found;
  } finally {
    await db.end().catch(() => undefined);
  }
}

/** Those of the ids that have no document and no row anywhere. Documents are asked first: a switched tenant may have nothing else. */
export async function unknownTenants(config: Config, { client }: { readonly client: Client }, tenantIds: readonly string[], signal: AbortSignal): Promise<string[]> {
  const left = new Set(tenantIds);
  const documents = new Documents(client, config.elasticsearch.indexPrefix, signal);
  for (const table of TABLES) {
    if (left.size === 0) return [];
    for (const { parts, documents: count } of await documents.indices(table, [...left])) if (count > 0) left.delete(parts.tenantId);
  }
  const db = await connect(pgTarget(config), { role: 'cutover' });
  try {
    const source = new Source({ scanning: db, lookup: db }, config.postgres.schema);
    for (const table of TABLES) {
      const open = await source.open(table);
      if (open) for (const [tenantId] of await source.query(`SELECT t FROM unnest($1::text[]) t WHERE EXISTS (SELECT FROM ONLY ${open.source.name} WHERE tenant_id = t::uuid)`, [[...left]])) left.delete(String(tenantId));
    }
    return [...left];
  } finally {
    await db.end().catch(() => undefined);
  }
}
