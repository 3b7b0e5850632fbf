import type { Confirmed, Reverted } from './confirm.ts';

/** What --confirm says. */
export function confirmLines({ switched, writtenMeanwhile }: Confirmed): string[] {
  const lines = switched.map(({ tenantId, lsn }) => `${tenantId}: switched at ${lsn}; Elasticsearch is its truth, and this program leaves its documents alone`);
  // not --revert: the late rows are settled as those of a switched tenant by now, so both ends differ
  if (writtenMeanwhile) lines.push(`PostgreSQL was written for them while this was recorded: a process of Dify still has the old settings. Restart it, then bring its rows over: stop the sinks, and dify-es replay --from-time ${switched[0]!.at} --run --force`);
  return lines;
}

/** What --revert says of one tenant. */
export function revertLine(tenantId: string, { was, verdict, onlyInElasticsearch, differences, done }: Reverted): string {
  const apart = onlyInElasticsearch + differences;
  if (!done && apart === 0) return `${tenantId}: not taken back: rows kept changing, or the path did not drain. See that dify-es run is up, then run it again.`;
  if (!done) return `${tenantId}: not taken back: ${onlyInElasticsearch} documents exist in Elasticsearch alone, ${differences} differ from PostgreSQL. With --force they stay where they are, and a migrate overwrites what differs with PostgreSQL's state.`;
  if (was === 'switched' || verdict !== 'equal' || apart > 0) return `${tenantId}: taken back; PostgreSQL is its truth again. Restart Dify with its old settings, then dify-es migrate --tenant-id ${tenantId} and validate --full.`;
  return `${tenantId}: was not switched, and both ends are equal. Restart Dify with its old settings; if it had those for writes, run this once more afterwards.`;
}
