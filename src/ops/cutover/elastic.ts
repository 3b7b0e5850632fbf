import type { Client } from '@elastic/elasticsearch';
import { CONNECTORS } from '../../connector/registry.ts';
import { esError } from '../../pipeline/sink/elastic-errors.ts';
import { indexName, indexPattern, parseIndexName, tenantPattern } from '../../pipeline/sink/index-name.ts';
import { listRelaxed, relaxedAlias } from '../../pipeline/sink/relaxed.ts';
import { ensureTemplates, templateOf, templateStates, type IndexTemplate, type TemplateSettings, type TemplateState } from '../../pipeline/sink/templates.ts';
import { QUICK_REFRESH, tenantTemplates } from '../../run/templates.ts';
import { shardUse } from '../check/elasticsearch/cluster.ts';
import { ask, type ClusterSettings, type Health } from '../check/elasticsearch/facts.ts';
import { isQuickRefresh, type ShardRoom } from './findings.ts';

const CONNECTOR_LIST = Object.values(CONNECTORS);

/** What Elasticsearch says about a tenant that is to be switched. */
export interface TenantIndices {
  /** Names of indices whose fields are not those of our template. */
  readonly wrongMapping: readonly string[];
  readonly slow: readonly string[];
  readonly comingSlow: readonly string[];
  /** Still without replicas or refreshes for the sake of a backfill. */
  readonly relaxed: readonly string[];
  readonly templates: ReadonlyMap<string, TemplateState>;
  readonly shards: ShardRoom;
}

/** `YYYY.MM` of the month of `now` and of the one after it, UTC. */
export function monthsToCome(now: Date): [current: string, next: string] {
  const month = (offset: number): string => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + offset, 1)).toISOString().slice(0, 7).replace('-', '.');
  return [month(0), month(1)];
}

/** Reads only. `everyTenant`: ids of all that there are, for what they need together. */
export async function readTenantIndices(client: Client, tenantId: string, everyTenant: readonly string[], settings: TemplateSettings, now: Date): Promise<TenantIndices> {
  const [current, next] = monthsToCome(now);
  const indices = await readIndices(client, tenantId, settings.prefix);
  const expected = new Map(CONNECTOR_LIST.map((connector) => [connector.table, propertiesOf(templateOf(connector, settings))]));
  const slow: string[] = [];
  const wrongMapping: string[] = [];
  for (const [name, { refresh, mappings }] of indices) {
    const parts = parseIndexName(settings.prefix, CONNECTOR_LIST, name)!;
    if (parts.month >= current && !isQuickRefresh(refresh)) slow.push(name);
    if (!hasMapping(mappings, expected.get(parts.connector.table)!)) wrongMapping.push(name);
  }
  const comingSlow: string[] = [];
  for (const connector of CONNECTOR_LIST) {
    for (const month of [current, next]) {
      const name = indexName(settings.prefix, connector, tenantId, month);
      if (!indices.has(name) && !isQuickRefresh(await refreshToCome(client, name))) comingSlow.push(name);
    }
  }
  return {
    wrongMapping, slow, comingSlow,
    relaxed: (await listRelaxed(client, relaxedAlias(settings.prefix))).filter((name) => indices.has(name)),
    templates: await templatesOf(client, tenantId, settings),
    shards: { ...(await readShards(client)), tenants: everyTenant.length, needed: shardsToCome(everyTenant, await indicesOfMonth(client, settings.prefix, next), settings, next) },
  };
}

/** The common templates, and the tenant's own where it has some: it has none before --prepare, which is no fault. */
async function templatesOf(client: Client, tenantId: string, settings: TemplateSettings): Promise<ReadonlyMap<string, TemplateState>> {
  const common = await templateStates(client, CONNECTOR_LIST.map((connector) => templateOf(connector, settings)));
  const own = await templateStates(client, tenantTemplates(tenantId, settings));
  return new Map([...common, ...[...own].filter(([, state]) => state !== 'absent')]);
}

/**
 * Sets the refresh interval of the tenant's indices, and puts a template of the tenant's own for those to come: see
 * docs/decisions/0009-refresh-of-switched-tenants.md. Returns what was changed.
 */
export async function prepareTenant(client: Client, tenantId: string, settings: TemplateSettings): Promise<{ indices: string[]; templates: string[] }> {
  const templates = await ensureTemplates(client, tenantTemplates(tenantId, settings));
  const slow = [...(await readIndices(client, tenantId, settings.prefix))].filter(([, { refresh }]) => !isQuickRefresh(refresh)).map(([name]) => name);
  for (const name of slow) {
    try {
      await client.transport.request({ method: 'PUT', path: `/${encodeURIComponent(name)}/_settings`, body: { 'index.refresh_interval': QUICK_REFRESH } });
    } catch (error) {
      throw esError(error);
    }
  }
  return { indices: slow, templates };
}

interface IndexFacts {
  readonly refresh: string | undefined;
  readonly mappings: Mappings;
}
interface Mappings {
  readonly dynamic?: unknown;
  readonly properties?: Readonly<Record<string, { readonly type?: string; readonly enabled?: unknown }>>;
}

async function readIndices(client: Client, tenantId: string, prefix: string): Promise<Map<string, IndexFacts>> {
  interface Answer { settings: Record<string, string>; mappings: Mappings }
  const found = new Map<string, IndexFacts>();
  for (const connector of CONNECTOR_LIST) {
    const answer = await ask<Record<string, Answer>>(client, `/${tenantPattern(prefix, connector, tenantId)}`, { flat_settings: 'true', expand_wildcards: 'open' });
    for (const [name, { settings, mappings }] of Object.entries(answer)) {
      if (parseIndexName(prefix, [connector], name)) found.set(name, { refresh: settings['index.refresh_interval'], mappings });
    }
  }
  return found;
}

/** Of these indices of ours those whose fields are not those of our template: rows may be refused there. Reads only. */
export async function wrongMappings(client: Client, names: ReadonlySet<string>, settings: TemplateSettings): Promise<string[]> {
  const wrong: string[] = [];
  for (const connector of CONNECTOR_LIST) {
    const own = [...names].filter((name) => parseIndexName(settings.prefix, [connector], name));
    if (own.length === 0) continue;
    const expected = propertiesOf(templateOf(connector, settings));
    const answer = await ask<Record<string, { mappings: Mappings }>>(client, `/${indexPattern(settings.prefix, connector)}/_mapping`, { expand_wildcards: 'open' });
    wrong.push(...own.filter((name) => answer[name] && !hasMapping(answer[name].mappings, expected)));
  }
  return wrong.sort();
}

/** What the server itself says an index of that name would get, whoever's template wins. */
async function refreshToCome(client: Client, name: string): Promise<string | undefined> {
  try {
    const answer = await client.transport.request<{ template?: { settings?: { index?: { refresh_interval?: string } } } }>({ method: 'POST', path: `/_index_template/_simulate_index/${encodeURIComponent(name)}` });
    return answer.template?.settings?.index?.refresh_interval;
  } catch (error) {
    throw esError(error);
  }
}

function propertiesOf({ body }: IndexTemplate): NonNullable<Mappings['properties']> {
  return (body.template.mappings as Mappings).properties ?? {};
}

/** Every field of ours with its type, and nothing mapped by guessing. */
function hasMapping(actual: Mappings, expected: NonNullable<Mappings['properties']>): boolean {
  if (String(actual.dynamic) !== 'false') return false;
  return Object.entries(expected).every(([name, { type, enabled }]) => {
    const field = actual.properties?.[name];
    return field !== undefined && (field.type ?? 'object') === (type ?? 'object') && String(field.enabled ?? true) === String(enabled ?? true);
  });
}

/** Dify's settings hold for a process and so for all of its tenants: each of them may make its indices of the month. */
export function shardsToCome(everyTenant: readonly string[], existing: ReadonlySet<string>, { prefix, shards, replicas }: Pick<TemplateSettings, 'prefix' | 'shards' | 'replicas'>, month: string): number {
  const names = everyTenant.flatMap((tenantId) => CONNECTOR_LIST.map((connector) => indexName(prefix, connector, tenantId, month)));
  return names.filter((name) => !existing.has(name)).length * shards * (1 + replicas);
}

async function indicesOfMonth(client: Client, prefix: string, month: string): Promise<Set<string>> {
  const names = new Set<string>();
  for (const connector of CONNECTOR_LIST) {
    for (const { index } of await ask<{ index: string }[]>(client, `/_cat/indices/${indexPattern(prefix, connector, month)}`, { format: 'json', h: 'index', expand_wildcards: 'all' })) names.add(index);
  }
  return names;
}

async function readShards(client: Client): Promise<Pick<ShardRoom, 'used' | 'limit'>> {
  const health = await ask<Health>(client, '/_cluster/health');
  const settings = await ask<ClusterSettings>(client, '/_cluster/settings', { include_defaults: 'true', filter_path: '*.cluster.max_shards_per_node' });
  const { used, limit } = shardUse(health, settings);
  return { used, limit };
}
