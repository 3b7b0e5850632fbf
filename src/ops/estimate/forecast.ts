import type { TableName } from '../../core/contracts.ts';
import type { Group } from './groups.ts';
import type { Probe } from './probe.ts';

export interface ForecastInput {
  readonly groups: readonly Group[];
  readonly probes: readonly Probe[];
  /** Indices that are there already, by name. */
  readonly existing: ReadonlySet<string>;
  readonly indexOf: (group: Group) => string;
  readonly shards: number;
  readonly replicas: number;
  /** Shards that the cluster still takes; null when it did not say. */
  readonly freeShards: number | null;
  /** Of all data nodes together, without what their watermarks keep free; null when they did not say. */
  readonly freeDiskBytes: number | null;
  /** Existing indices of the filter whose fields are not those of our template. */
  readonly wrongMapping: readonly string[];
  /** WAL that the slot may hold back: the lower of max_slot_wal_keep_size and WAL_BUDGET; null: unlimited. */
  readonly walLimitBytes: number | null;
  /** Rows of whole months before this one (`YYYY.MM`) are older than ELASTICSEARCH_RETENTION_DAYS. */
  readonly oldestKeptMonth: string;
  /** WAL that the server writes now, bytes a second, from two looks at it. */
  readonly walBytesPerSecond: number;
}

export interface TableForecast {
  readonly table: TableName;
  readonly rows: number;
  readonly bytes: number;
  readonly kafkaBytes: number;
  readonly elasticBytes: number;
  readonly outsideRetention: number;
  /** Extrapolated from the sample. */
  readonly invalidJson: number;
  readonly refused: number;
  readonly sampled: number;
}

export interface Forecast {
  readonly tables: readonly TableForecast[];
  readonly rows: number;
  readonly bytes: number;
  readonly kafkaBytes: number;
  readonly elasticBytes: number;
  readonly newIndices: number;
  readonly newShards: number;
  readonly freeShards: number | null;
  readonly shardsFit: boolean;
  readonly freeDiskBytes: number | null;
  readonly diskFits: boolean;
  readonly wrongMapping: readonly string[];
  /** Reading, encoding and writing documents here, with one worker, without Kafka and Elasticsearch: at least that. */
  readonly secondsAtLeast: number;
  /** WAL written by the server in that time; the slot holds it back only while no reader runs. */
  readonly walBytes: number;
  readonly walLimitBytes: number | null;
}

/** Nothing that was looked at is in the way. */
export function fits({ shardsFit, diskFits, wrongMapping }: Pick<Forecast, 'shardsFit' | 'diskFits' | 'wrongMapping'>): boolean {
  return shardsFit && diskFits && wrongMapping.length === 0;
}

/** Pure: from exact counts and a sample to what is to come. Index structures take about as much again as the texts. */
const INDEX_OVERHEAD = 1.3;

export function forecast(input: ForecastInput): Forecast {
  const tables = [...Map.groupBy(input.groups, (group) => group.table)].map(([table, groups]) => forecastTable(table, groups, input));
  const sum = (pick: (table: TableForecast) => number): number => tables.reduce((total, table) => total + pick(table), 0);
  const indices = new Set(input.groups.filter(({ month }) => month !== '-').map(input.indexOf));
  const newIndices = [...indices].filter((index) => !input.existing.has(index)).length;
  const newShards = newIndices * input.shards * (1 + input.replicas);
  const secondsAtLeast = tables.reduce((total, { table, rows }) => {
    const probe = input.probes.find((one) => one.table === table);
    return total + (probe && probe.rows > 0 ? (probe.seconds / probe.rows) * rows : 0);
  }, 0);
  const elasticBytes = sum((table) => table.elasticBytes);
  return {
    tables,
    rows: sum(({ rows }) => rows),
    bytes: sum(({ bytes }) => bytes),
    kafkaBytes: sum(({ kafkaBytes }) => kafkaBytes),
    elasticBytes,
    newIndices,
    newShards,
    freeShards: input.freeShards,
    shardsFit: input.freeShards === null || newShards <= input.freeShards,
    freeDiskBytes: input.freeDiskBytes,
    diskFits: input.freeDiskBytes === null || elasticBytes <= input.freeDiskBytes,
    wrongMapping: input.wrongMapping,
    secondsAtLeast,
    walLimitBytes: input.walLimitBytes,
    walBytes: Math.round(secondsAtLeast * input.walBytesPerSecond),
  };
}

function forecastTable(table: TableName, groups: readonly Group[], { probes, oldestKeptMonth, replicas }: ForecastInput): TableForecast {
  const rows = groups.reduce((total, group) => total + group.rows, 0);
  const probe = probes.find((one) => one.table === table);
  const scale = probe && probe.rows > 0 ? rows / probe.rows : 0;
  const refused = probe ? Object.values(probe.refused).reduce((a, b) => a + b, 0) : 0;
  return {
    table,
    rows,
    bytes: groups.reduce((total, group) => total + group.bytes, 0),
    kafkaBytes: Math.round((probe?.packedBytes ?? 0) * scale),
    elasticBytes: Math.round((probe?.storedBytes ?? 0) * scale * INDEX_OVERHEAD * (1 + replicas)),
    outsideRetention: groups.filter(({ month }) => month !== '-' && month < oldestKeptMonth).reduce((total, group) => total + group.rows, 0),
    invalidJson: Math.round((probe?.invalidJson ?? 0) * scale),
    refused: Math.round(refused * scale),
    sampled: probe?.rows ?? 0,
  };
}
