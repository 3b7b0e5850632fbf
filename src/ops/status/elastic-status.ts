import type { Client } from '@elastic/elasticsearch';
import { CONNECTORS } from '../../connector/registry.ts';
import { TABLES, type TableName } from '../../core/contracts.ts';
import { esError } from '../../pipeline/sink/elastic-errors.ts';
import { listRelaxed, relaxedAlias } from '../../pipeline/sink/relaxed.ts';
import { indexPattern, parseIndexName, tenantPattern } from '../../pipeline/sink/index-name.ts';

export interface IndexStatus {
  readonly index: string;
  readonly table: TableName;
  readonly tenantId: string;
  readonly month: string;
  readonly documents: number;
  /** Of the primaries. */
  readonly bytes: number;
  readonly health: string;
  readonly status: string;
  /** Writes and deletes since the primary shard was opened: a counter, for rates. */
  readonly operations: number;
}

export interface ElasticStatus {
  readonly cluster: string;
  readonly version: string;
  readonly nodes: number;
  /** `green`, `yellow`, `red`. */
  readonly health: string;
  readonly indices: readonly IndexStatus[];
  /** Without their replicas or refreshes for the sake of a backfill: a sink puts them back when it is over. */
  readonly relaxed: readonly string[];
}

/** `server` is what checkConnection answered. */
export async function readElastic(client: Client, prefix: string, tenantId: string | null, server: { readonly clusterName: string; readonly version: string; readonly nodes: number }): Promise<ElasticStatus> {
  const { status: health } = await call(() => client.transport.request<{ status: string }>({ method: 'GET', path: '/_cluster/health', querystring: { filter_path: 'status' } }));
  const indices = await Promise.all(TABLES.map((table) => indicesOf(client, prefix, table, tenantId)));
  return { cluster: server.clusterName, version: server.version, nodes: server.nodes, health, indices: indices.flat(), relaxed: await listRelaxed(client, relaxedAlias(prefix)) };
}

async function indicesOf(client: Client, prefix: string, table: TableName, tenantId: string | null): Promise<IndexStatus[]> {
  interface Line { index: string; health: string | null; status: string; 'docs.count': string | null; 'pri.store.size': string | null; 'pri.indexing.index_total': string | null; 'pri.indexing.delete_total': string | null }
  const connector = CONNECTORS[table];
  const pattern = tenantId === null ? indexPattern(prefix, connector) : tenantPattern(prefix, connector, tenantId);
  const querystring = { format: 'json', bytes: 'b', h: 'index,health,status,docs.count,pri.store.size,pri.indexing.index_total,pri.indexing.delete_total', expand_wildcards: 'all' };
  const lines = await call(() => client.transport.request<Line[]>({ method: 'GET', path: `/_cat/indices/${pattern}`, querystring }));
  return lines
    .flatMap((line) => {
      const parts = parseIndexName(prefix, [connector], line.index);
      if (!parts) return [];
      const { tenantId: tenant, month } = parts;
      return [{ index: line.index, table, tenantId: tenant, month, documents: Number(line['docs.count'] ?? 0), bytes: Number(line['pri.store.size'] ?? 0), health: line.health ?? 'unknown', status: line.status, operations: Number(line['pri.indexing.index_total'] ?? 0) + Number(line['pri.indexing.delete_total'] ?? 0) }];
    })
    .sort((a, b) => (a.index < b.index ? -1 : 1));
}

async function call<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    throw esError(error);
  }
}
