import { formatBytes, formatCount, formatDuration } from './format.ts';
import type { Output } from './output.ts';
import type { Estimate } from '../ops/estimate/estimate.ts';

/** Groups on the screen; --json has all of them. */
const SHOWN = 40;

/** The estimate for a person. */
export function printEstimate({ groups, forecast, missing }: Estimate, out: Output): void {
  const shown = groups.toSorted((a, b) => b.bytes - a.bytes).slice(0, SHOWN);
  out.table(['table', 'tenant', 'month', 'rows', 'bytes'], shown.map(({ table, tenantId, month, rows, bytes }) => [table, tenantId, month, formatCount(rows), formatBytes(bytes)]));
  if (groups.length > shown.length) out.line(`… and ${formatCount(groups.length - shown.length)} smaller ones (--json prints all)`);
  out.table(
    ['table', 'rows', 'text', 'in Kafka', 'in Elasticsearch', 'outside retention', 'invalid JSON', 'dead letters', 'sampled'],
    forecast.tables.map((table) => [
      table.table, formatCount(table.rows), formatBytes(table.bytes), `~${formatBytes(table.kafkaBytes)}`, `~${formatBytes(table.elasticBytes)}`,
      formatCount(table.outsideRetention), `~${formatCount(table.invalidJson)}`, `~${formatCount(table.refused)}`, formatCount(table.sampled),
    ]),
  );
  for (const table of missing) out.line(`${table} is not in this release of Dify`);
  const { newIndices, newShards, freeShards } = forecast;
  out.line(`${formatCount(newIndices)} new indices with ${formatCount(newShards)} shards${freeShards === null ? '' : `; the cluster takes ${formatCount(freeShards)} more`}`);
  if (!forecast.shardsFit) out.line('NOT ENOUGH: raise cluster.max_shards_per_node or add nodes first');
  const { wrongMapping, freeDiskBytes, diskFits, walLimitBytes } = forecast;
  out.line(`about ${formatBytes(forecast.elasticBytes)} in Elasticsearch${freeDiskBytes === null ? '' : `, of ${formatBytes(freeDiskBytes)} that its disks take below their high watermark`}; about ${formatBytes(forecast.kafkaBytes)} in Kafka on each replica`);
  if (!diskFits) out.line('NOT ENOUGH: add disks or nodes first, or migrate fewer months');
  if (wrongMapping.length > 0) out.line(`MADE WITHOUT OUR TEMPLATE: ${wrongMapping.slice(0, 3).join(', ')}${wrongMapping.length > 3 ? ` and ${wrongMapping.length - 3} more` : ''}: rows may be refused there; drop these indices first, the backfill makes them anew`);
  const limit = walLimitBytes === null ? 'nothing limits what the slot holds back (max_slot_wal_keep_size, WAL_BUDGET)' : `the slot may hold back ${formatBytes(walLimitBytes)}`;
  out.line(`at least ${formatDuration(forecast.secondsAtLeast)} for one worker of this machine, Kafka and Elasticsearch not counted; ${formatBytes(forecast.walBytes)} of WAL in that time at the present rate; ${limit}`);
  out.line('nothing was written');
}
