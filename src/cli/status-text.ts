import type { ElasticStatus, IndexStatus } from '../ops/status/elastic-status.ts';
import type { GroupStatus, KafkaStatus, LettersStatus } from '../ops/status/kafka-status.ts';
import type { Part } from '../ops/status/part.ts';
import type { RecordedState } from '../ops/status/recorded-state.ts';
import type { SourceStatus } from '../ops/status/source-status.ts';
import type { Status } from '../ops/status/status.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';
import type { Output } from './output.ts';

type Out = Pick<Output, 'line' | 'table'>;

/** The status for a person: what needs hands is said in capitals or with its cure. */
export function printStatus(status: Status, out: Out, now: Date = new Date()): void {
  part('PostgreSQL', status.source, out, printSource);
  part('Kafka', status.kafka, out, printKafka);
  part('Sinks', status.group, out, printGroup);
  part('Elasticsearch', status.elasticsearch, out, printElastic);
  part('State', status.state, out, printState);
  part('Dead letters', status.letters, out, (value) => printLetters(value, out, now));
  if (status.elasticsearch.ok) printIndices(status.elasticsearch.value, out);
}

function part<T>(name: string, read: Part<T>, out: Out, print: (value: T, out: Out) => void): void {
  if (read.ok) print(read.value, out);
  else out.line(heading(name, `cannot be read: ${read.message} (${read.cure})`));
}

const heading = (name: string, text: string): string => `${name.padEnd(14)}${text}`;
const more = (text: string): string => heading('', text);
const count = (value: number, what: string): string => `${formatCount(value)} ${what}${value === 1 ? '' : 's'}`;

function printSource({ version, currentLsn, slot, wal, tables }: SourceStatus, out: Out): void {
  out.line(heading('PostgreSQL', `${version} · at ${currentLsn}`));
  if (!slot) out.line(more('NO SLOT: run `dify-es setup`'));
  else if (slot.walStatus === 'lost' || slot.invalidation !== null) out.line(more(`SLOT LOST: ${slot.name}${slot.invalidation ? ` (${slot.invalidation})` : ''}: run \`dify-es setup\` and then a full \`dify-es migrate\``));
  else {
    const lag = slot.lagBytes === null ? 'unknown' : `${formatBytes(slot.lagBytes)}${slot.lagSeconds === null ? '' : `, ${formatDuration(slot.lagSeconds)}`}`;
    out.line(more(`slot ${slot.name}: ${slot.active ? 'being read' : 'NOBODY READS IT'} · confirmed ${slot.confirmedLsn ?? '-'} · lag ${lag}`));
  }
  if (wal) {
    const share = wal.share === null || wal.limitBytes === null ? 'NO LIMIT: set max_slot_wal_keep_size or WAL_BUDGET' : `${(100 * wal.share).toFixed(1)} % of ${formatBytes(wal.limitBytes)}`;
    const growth = wal.bytesPerSecond > 0 ? ` · grows by ${formatBytes(wal.bytesPerSecond)}/s${wal.secondsLeft === null ? '' : `, full in ${formatDuration(wal.secondsLeft)}`}` : '';
    out.line(more(`WAL held back: ${formatBytes(wal.retainedBytes)} · ${share}${growth}`));
  }
  for (const { table, published, identityUsable } of tables) {
    if (!identityUsable) out.line(more(`IDENTITY BROKEN: ${table}: every UPDATE and DELETE of Dify fails: run \`dify-es setup\` at once`));
    if (!published) out.line(more(`NOT PUBLISHED: ${table}: run \`dify-es setup\``));
  }
}

function printKafka({ brokers, topics }: KafkaStatus, out: Out): void {
  const missing = topics.filter(({ exists }) => !exists).map(({ topic }) => topic);
  const behind = topics.filter(({ underReplicated }) => underReplicated > 0).map(({ topic }) => topic);
  const present = topics.filter(({ exists }) => exists);
  out.line(heading('Kafka', `${count(brokers, 'broker')} · ${count(present.length, 'topic')} · ${formatCount(present.reduce((sum, { partitions }) => sum + partitions, 0))} partitions`));
  if (missing.length > 0) out.line(more(`MISSING: ${missing.join(', ')}: run \`dify-es setup\``));
  if (behind.length > 0) out.line(more(`replicas behind: ${behind.join(', ')}`));
}

function printElastic({ version, health, nodes, relaxed }: ElasticStatus, out: Out): void {
  out.line(heading('Elasticsearch', `${version} · ${health} · ${count(nodes, 'node')}`));
  if (relaxed.length > 0) out.line(more(`relaxed for the backfill: ${relaxed.length === 1 ? '1 index' : `${formatCount(relaxed.length)} indices`}; a sink puts refresh and replicas back when it is over`));
}

function printGroup({ group, state, members, drained, tables }: GroupStatus, out: Out): void {
  const left = tables.filter(({ behind }) => behind > 0).map(({ table, behind }) => `${table} ${formatCount(behind)}`);
  out.line(heading('Sinks', `group ${group}: ${state}, ${count(members, 'member')} · ${drained ? 'everything settled' : `behind by ${left.join(', ')}`}`));
}

function printState(state: RecordedState, out: Out): void {
  out.line(heading('State', state.epoch ? `epoch ${state.epoch.epoch} · high-water mark ${state.epoch.highWaterLsn}` : 'no reader has ever run'));
  for (const required of state.required) {
    const next = required.backfilledBy ? 'run `dify-es validate --full` to settle it: surplus documents may remain' : 'run `dify-es migrate` without filters';
    out.line(more(`BACKFILL REQUIRED: ${required.table} (${required.reason}, since ${required.sinceLsn}): ${next}`));
  }
  for (const run of state.runs) {
    out.line(more(`backfill ${run.runId.slice(0, 8)}: ${run.state}, begun ${run.startedAt}${describeFilter(run.filter)}`));
    for (const { table, rows, bytes, share } of run.tables) out.line(more(`  ${table.padEnd(33)}${(100 * share).toFixed(1).padStart(5)} % · ${formatCount(rows)} rows · ${formatBytes(bytes)}`));
  }
  for (const { table, lsn, at } of state.truncatesIgnored) out.line(more(`TRUNCATE of ${table} at ${lsn} (${at}) was ignored: its history stays in Elasticsearch`));
  for (const { tenantId, before } of state.cleanups) out.line(more(`cleanup-pg of ${tenantId} before ${before} is open`));
  for (const { tenantId, at } of state.switched) out.line(more(`switched: ${tenantId} since ${at}`));
  for (const { tenantId, throughMonth } of state.retention) out.line(more(`retention: ${tenantId} dropped through ${throughMonth}`));
  for (const { tenantId, table, before } of state.archived) out.line(more(`archived: ${table} of ${tenantId} before ${before}`));
}

function describeFilter({ tenantIds, from, before }: RecordedState['runs'][number]['filter']): string {
  const parts = [tenantIds.length > 0 ? count(tenantIds.length, 'tenant') : '', from === null ? '' : `from ${from}`, before === null ? '' : `before ${before}`].filter(Boolean);
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}

function printLetters({ open, groups }: LettersStatus, out: Out, now: Date): void {
  out.line(heading('Dead letters', open === 0 ? 'none is open' : `${formatCount(open)} OPEN: \`dify-es dlq list\``));
  if (groups.length === 0) return;
  const age = (at: string | null): string => (at === null ? '-' : formatDuration((now.getTime() - Date.parse(at)) / 1000));
  out.table(['cause', 'table', 'open', 'accepted', 'redriven', 'oldest open'], groups.map((group) => [group.cause, group.table, group.open, group.accepted, group.redriven, age(group.oldestOpen)]));
}

function printIndices({ indices }: ElasticStatus, out: Out): void {
  if (indices.length === 0) return out.line(heading('Indices', 'none'));
  const rows = [...Map.groupBy(indices, ({ table, tenantId }) => `${table} ${tenantId}`).values()].map((group): (string | number)[] => {
    const months = group.map(({ month }) => month).sort();
    return [group[0]!.table, group[0]!.tenantId, `${months[0]} … ${months.at(-1)}`, group.length, formatCount(sum(group, 'documents')), formatBytes(sum(group, 'bytes')), worst(group)];
  });
  out.table(['table', 'tenant', 'months', 'indices', 'documents', 'size', 'health'], [...rows, ['all', '', '', indices.length, formatCount(sum(indices, 'documents')), formatBytes(sum(indices, 'bytes')), worst(indices)]]);
}

const sum = (indices: readonly IndexStatus[], what: 'documents' | 'bytes'): number => indices.reduce((total, index) => total + index[what], 0);

function worst(indices: readonly IndexStatus[]): string {
  if (indices.some(({ status }) => status === 'close')) return 'closed';
  return ['red', 'yellow', 'green'].find((health) => indices.some((index) => index.health === health)) ?? 'unknown';
}
