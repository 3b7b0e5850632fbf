import type { Client } from '@elastic/elasticsearch';
import { esError, failureOf } from '../../../pipeline/sink/elastic-errors.ts';

/** One request, read only; errors are DifyEsErrors. */
export async function ask<T>(client: Client, path: string, querystring: Record<string, string> = {}): Promise<T> {
  try {
    return await client.transport.request<T>({ method: 'GET', path, querystring });
  } catch (error) {
    throw esError(error);
  }
}

/** Nested, as `GET _cluster/settings` gives it; what is set now counts before what is set for ever and the default. */
export type ClusterSettings = Readonly<Partial<Record<'transient' | 'persistent' | 'defaults', unknown>>>;

export function setting(settings: ClusterSettings, name: string): string | undefined {
  for (const source of ['transient', 'persistent', 'defaults'] as const) {
    const value = find(settings[source], name);
    if (typeof value === 'string') return value;
    if (Array.isArray(value)) return value.join(',');
  }
  return undefined;
}

/** A key may hold dots itself: `watermark` has `high` and, beside it, `high.max_headroom`. */
function find(at: unknown, name: string): unknown {
  if (typeof at !== 'object' || at === null) return undefined;
  for (const [key, value] of Object.entries(at)) {
    if (key === name) return value;
    const found = name.startsWith(`${key}.`) ? find(value, name.slice(key.length + 1)) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

export interface Health {
  readonly status: 'green' | 'yellow' | 'red';
  readonly number_of_data_nodes: number;
  readonly active_shards: number;
  readonly unassigned_shards: number;
}

export interface NodeFacts {
  readonly data: boolean;
  readonly heapBytes: number;
  readonly maxContentBytes: number;
  readonly diskTotalBytes: number;
  readonly diskAvailableBytes: number;
}

interface Nodes {
  readonly nodes: Record<string, { roles?: string[]; jvm?: { mem?: { heap_max_in_bytes?: number } }; http?: { max_content_length_in_bytes?: number }; fs?: { total?: { total_in_bytes?: number; available_in_bytes?: number } } }>;
}

export async function readNodes(client: Client): Promise<NodeFacts[]> {
  const infos = await ask<Nodes>(client, '/_nodes/http,jvm', { filter_path: 'nodes.*.roles,nodes.*.jvm.mem.heap_max_in_bytes,nodes.*.http.max_content_length_in_bytes' });
  const stats = await ask<Nodes>(client, '/_nodes/stats/fs', { filter_path: 'nodes.*.fs.total' });
  return Object.entries(infos.nodes).map(([id, info]) => ({
    data: (info.roles ?? []).some((role) => role === 'data' || role.startsWith('data_')),
    heapBytes: info.jvm?.mem?.heap_max_in_bytes ?? 0,
    maxContentBytes: info.http?.max_content_length_in_bytes ?? 0,
    diskTotalBytes: stats.nodes[id]?.fs?.total?.total_in_bytes ?? 0,
    diskAvailableBytes: stats.nodes[id]?.fs?.total?.available_in_bytes ?? 0,
  }));
}

export interface ForeignTemplate {
  readonly name: string;
  readonly patterns: readonly string[];
  readonly priority: number;
}

export async function readTemplates(client: Client): Promise<ForeignTemplate[]> {
  interface Answer { index_templates?: { name: string; index_template: { index_patterns: string | string[]; priority?: number } }[] }
  const answer = await ask<Answer>(client, '/_index_template', { filter_path: 'index_templates.name,index_templates.index_template.index_patterns,index_templates.index_template.priority' });
  return (answer.index_templates ?? []).map(({ name, index_template: { index_patterns, priority } }) => ({ name, patterns: [index_patterns].flat(), priority: priority ?? 0 }));
}

/** Names of our indices that take no writes, with the block. */
export async function readBlocks(client: Client, prefix: string): Promise<{ index: string; block: string }[]> {
  const answer = await ask<Record<string, { settings?: Record<string, string> }>>(client, `/${prefix}-*/_settings/index.blocks.*`, { flat_settings: 'true', expand_wildcards: 'open,hidden' });
  return Object.entries(answer).flatMap(([index, { settings }]) => Object.entries(settings ?? {}).filter(([name, value]) => /^index\.blocks\.(read_only|write|metadata)/.test(name) && value === 'true').map(([block]) => ({ index, block })));
}

/** What a user or an API key needs, as `_has_privileges` has it; an API key calls `index` `indices`. */
export function rightsNeeded(prefix: string): { readonly cluster: readonly string[]; readonly index: readonly { readonly names: readonly string[]; readonly privileges: readonly string[] }[] } {
  return {
    cluster: ['monitor', 'manage_index_templates'],
    index: [{ names: [`${prefix}-*`], privileges: ['auto_configure', 'create_index', 'index', 'delete', 'read', 'view_index_metadata', 'maintenance', 'manage'] }],
  };
}

/** What the role lacks; null where security is off and everybody may do everything. */
export async function readMissingRights(client: Client, prefix: string): Promise<string[] | null> {
  interface Answer { cluster: Record<string, boolean>; index: Record<string, Record<string, boolean>> }
  try {
    const answer = await client.transport.request<Answer>({ method: 'POST', path: '/_security/user/_has_privileges', body: rightsNeeded(prefix) });
    const lacking = (rights: Record<string, boolean>): string[] => Object.entries(rights).filter(([, has]) => !has).map(([name]) => name);
    return [...lacking(answer.cluster), ...Object.values(answer.index).flatMap((rights) => lacking(rights).map((name) => `${name} on ${prefix}-*`))];
  } catch (error) {
    // with security off there is no such endpoint: "no handler found"
    if (failureOf(error).status === 400) return null;
    throw esError(error);
  }
}
