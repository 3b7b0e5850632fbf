import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../config/config.ts';
import { CONNECTORS } from '../../connector/registry.ts';
import { TABLES, type TableName } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import type { BackfillFilter } from '../../core/state.ts';
import { filterSql, normalizeFilter } from '../../pipeline/backfill/filter.ts';
import { connect } from '../../pipeline/capture/pg-connection.ts';
import { checkConnection } from '../../pipeline/sink/elastic-client.ts';
import { indexName } from '../../pipeline/sink/index-name.ts';
import { DEFAULT_SEARCH_TEXT_BYTES } from '../../pipeline/sink/sink.ts';
import { elasticSettings, openElastic, pgTarget } from '../../run/connections.ts';
import { templateSettings } from '../../run/sink.ts';
import { diskRoom, shardUse } from '../check/elasticsearch/cluster.ts';
import { ask, readNodes, type ClusterSettings, type Health } from '../check/elasticsearch/facts.ts';
import { wrongMappings } from '../cutover/elastic.ts';
import { oldestKeptMonth } from '../retention/plan.ts';
import { Documents } from '../validate/documents.ts';
import { Source } from '../validate/source.ts';
import { forecast, type Forecast } from './forecast.ts';
import { countGroups, type Group } from './groups.ts';
import { probeTable, type Probe } from './probe.ts';

const SAMPLE_ROWS = 2_000;
const WAL_LOOK_MS = 2_000;

export interface Estimate {
  readonly groups: readonly Group[];
  readonly forecast: Forecast;
  /** Tables of the filter that this Dify release does not have. */
  readonly missing: readonly TableName[];
}

export interface EstimateOptions {
  readonly filter: BackfillFilter;
  readonly signal: AbortSignal;
  readonly onBlocks: (table: TableName, done: number, total: number) => void;
}

/** What a migrate with this filter would do, without writing anything anywhere; Kafka is not even asked. */
export async function estimate(config: Config, { filter, signal, onBlocks }: EstimateOptions): Promise<Estimate> {
  const { indexPrefix: prefix, searchText, shards, replicas, retentionDays } = config.elasticsearch;
  const client = openElastic(config);
  const scanning = await connect(pgTarget(config), { role: 'estimate' });
  const lookup = await connect(pgTarget(config), { role: 'estimate' });
  try {
    await checkConnection(client, elasticSettings(config));
    const source = new Source({ scanning, lookup }, config.postgres.schema);
    const condition = filterSql(normalizeFilter(filter));
    const nodes = (await readNodes(client)).filter(({ data }) => data);
    const documentLimitBytes = heapShare(nodes);
    const groups: Group[] = [];
    const probes: Probe[] = [];
    const missing: TableName[] = [];
    const walBytesPerSecond = await walRate(source, signal);
    for (const table of TABLES.filter((name) => filter.tables.includes(name))) {
      if (signal.aborted) throw new DifyEsError('STOPPED', 'stopped before everything was counted');
      const open = await source.open(table);
      if (!open) {
        missing.push(table);
        continue;
      }
      groups.push(...(await countGroups(source, open, condition, (done) => onBlocks(table, done, open.size.blocks))));
      probes.push(await probeTable(source, open, condition, { count: SAMPLE_ROWS, searchTextBytes: searchText ? DEFAULT_SEARCH_TEXT_BYTES : 0, documentLimitBytes }));
    }
    const documents = new Documents(client, prefix, signal);
    const existing = new Set<string>();
    for (const table of filter.tables) for (const { name } of await documents.indices(table, filter.tenantIds)) existing.add(name);
    const health = await ask<Health>(client, '/_cluster/health');
    const settings = await ask<ClusterSettings>(client, '/_cluster/settings', { include_defaults: 'true', filter_path: '*.cluster.max_shards_per_node,*.cluster.routing.allocation.disk' });
    const { used, limit } = shardUse(health, settings);
    return {
      groups,
      missing,
      forecast: forecast({
        groups, probes, existing, shards, replicas, walBytesPerSecond,
        indexOf: ({ table, tenantId, month }) => indexName(prefix, CONNECTORS[table], tenantId, month),
        freeDiskBytes: diskRoom(nodes, settings),
        wrongMapping: await wrongMappings(client, existing, templateSettings(config)),
        walLimitBytes: await walLimit(source, config.postgres.walBudget),
        freeShards: limit - used,
        oldestKeptMonth: oldestKeptMonth(new Date(), retentionDays),
      }),
    };
  } finally {
    await Promise.allSettled([scanning.end(), lookup.end(), client.close()]);
  }
}

/** Of the smallest heap: a document above it was refused with 429 for ever by Elasticsearch 9.5. */
function heapShare(nodes: readonly { readonly heapBytes: number }[]): number | null {
  const heaps = nodes.map(({ heapBytes }) => heapBytes).filter((bytes) => bytes > 0);
  return heaps.length === 0 ? null : Math.min(...heaps) * 0.02;
}

async function walLimit(source: Source, budget: number): Promise<number | null> {
  const [row] = await source.query(`SELECT nullif(setting::bigint, -1) * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'`);
  const limits = [Number(row?.[0] ?? 0), budget].filter((bytes) => bytes > 0);
  return limits.length === 0 ? null : Math.min(...limits);
}

async function walRate(source: Source, signal: AbortSignal): Promise<number> {
  const position = async (): Promise<bigint> => BigInt(String((await source.query(`SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::text`))[0]![0]));
  const before = await position();
  const began = performance.now();
  await sleep(WAL_LOOK_MS, undefined, { signal }).catch(() => undefined);
  return (Number((await position()) - before) * 1000) / (performance.now() - began);
}
