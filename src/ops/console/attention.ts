import type { BackfillRequired } from '../../core/state.ts';
import { parseLsn } from '../../core/lsn.ts';
import { fail, size, warn, type Finding } from '../check/finding.ts';
import { slotFinding } from '../cutover/findings.ts';
import type { LettersStatus } from '../status/kafka-status.ts';
import type { SourceStatus } from '../status/source-status.ts';
import { lastOf, type Seen } from './look.ts';
import type { FlowView, RunView } from './view.ts';

/** What is known beside the view. `Since`: milliseconds since 1970; null: it moves, or there is nothing to move. */
export interface Movement {
  readonly letters: Seen<LettersStatus>;
  /** The sinks are behind and have settled nothing since. */
  readonly sinksStoodSince: number | null;
  /** A backfill is open and has read nothing since. */
  readonly backfillStoodSince: number | null;
  readonly nowMs: number;
}

/** Longer than any batch of a healthy path. */
const STOOD_MS = 45_000;

/** What needs hands, the worst first; each with its cure. The subject stays the same while the matter does. Pure. */
export function attentionOf(view: Omit<FlowView, 'attention'>, movement: Movement): Finding[] {
  const findings = [
    ...away('PostgreSQL', view.source), ...(view.source.state === 'seen' ? ofSource(view.source.value) : []),
    ...away('Kafka', view.kafka), ...(view.kafka.state === 'seen' ? ofTopics(view.kafka.value.topics) : []),
    ...(view.kafka.state === 'seen' ? ofSinks(view, movement) : []),
    ...away('Elasticsearch', view.elasticsearch), ...(view.elasticsearch.state === 'seen' ? ofElastic(view.elasticsearch.value) : []),
    ...ofRequired(lastOf(view.recorded)?.required ?? []),
    ...ofRuns(lastOf(view.recorded)?.runs ?? [], movement),
    ...ofLetters(lastOf(movement.letters)?.open ?? 0),
  ];
  return findings.sort((a, b) => Number(a.level !== 'fail') - Number(b.level !== 'fail'));
}

function away(server: string, seen: Seen<unknown>): Finding[] {
  return seen.state === 'away' ? [fail(server, seen.message, seen.cure)] : [];
}

function ofSource({ slot, wal, tables }: SourceStatus): Finding[] {
  // 1 for any: who reads it is not asked here
  const state = slot && { walStatus: slot.walStatus, confirmedFlushLsn: slot.confirmedLsn === null ? null : parseLsn(slot.confirmedLsn), activePid: slot.active ? 1 : null };
  const found = slotFinding(state ?? undefined, slot?.name ?? 'the slot');
  const findings: Finding[] = [];
  if (!slot) findings.push(fail('slot', 'there is none: nothing is captured', 'Run dify-es setup, then dify-es run.'));
  else if (found.level !== 'ok') findings.push(found);
  if (wal?.level === 'past') findings.push(fail('WAL', `the slot holds back ${size(wal.retainedBytes)}, more than the ${size(wal.limitBytes ?? 0)} it may`, 'See that the reader gets on; WAL_BUDGET_ACTION says what happens now.'));
  if (wal?.level === 'near') findings.push(warn('WAL', `the slot holds back ${size(wal.retainedBytes)} of ${size(wal.limitBytes ?? 0)}: the backfill brakes`, 'See that the reader gets on, or raise max_slot_wal_keep_size and WAL_BUDGET.'));
  if (wal?.level === 'unlimited') findings.push(warn('WAL', 'nothing keeps the slot from filling the disk of PostgreSQL', 'Set max_slot_wal_keep_size or WAL_BUDGET.'));
  for (const { table, published, identityUsable } of tables) {
    if (!identityUsable) findings.push(fail(`identity of ${table}`, 'the index is gone or unusable: every UPDATE and DELETE of Dify fails', 'Run dify-es setup at once.'));
    if (!published) findings.push(fail(`publication of ${table}`, 'its changes are lost', 'Run dify-es setup, then dify-es migrate.'));
  }
  return findings;
}

function ofTopics(topics: readonly { readonly topic: string; readonly exists: boolean; readonly underReplicated: number }[]): Finding[] {
  const missing = topics.filter(({ exists }) => !exists).map(({ topic }) => topic);
  const behind = topics.filter(({ underReplicated }) => underReplicated > 0).map(({ topic }) => topic);
  return [
    ...(missing.length > 0 ? [fail('topics', `${missing.join(', ')} missing`, 'Run dify-es setup.')] : []),
    ...(behind.length > 0 ? [warn('replicas', `behind: ${behind.join(', ')}`, 'See to the brokers: one is away or slow.')] : []),
  ];
}

function ofSinks({ group }: Omit<FlowView, 'attention'>, { sinksStoodSince, nowMs }: Movement): Finding[] {
  if (group.state !== 'seen' || group.value.drained) return [];
  const behind = group.value.tables.reduce((sum, table) => sum + table.behind, 0);
  const waiting = `${behind.toLocaleString('en-US')} records wait`;
  if (group.value.members === 0) return [fail('sinks', `none is running; ${waiting}`, 'Start dify-es run or dify-es sink.')];
  if (sinksStoodSince === null || nowMs - sinksStoodSince < STOOD_MS) return [];
  return [warn('sinks', `${waiting} and none was settled for ${Math.round((nowMs - sinksStoodSince) / 1000)} s`, 'Look at the log of dify-es sink: it says what it waits for.')];
}

function ofElastic({ health, closed }: { readonly health: string; readonly closed: number }): Finding[] {
  return [
    ...(health === 'red' ? [fail('cluster', 'Elasticsearch is red: a shard is missing', 'Look at GET _cluster/allocation/explain.')] : []),
    ...(closed > 0 ? [warn('indices', `${closed} closed: their documents cannot be read`, 'Open them, or drop them by dify-es retention.')] : []),
  ];
}

/** One line for all tables that need the same. */
function ofRequired(required: readonly BackfillRequired[]): Finding[] {
  const groups = Map.groupBy(required, ({ reason, backfilledBy }) => `${reason}/${backfilledBy === undefined ? '' : 'surplus'}`);
  return [...groups.values()].map((group) => {
    const [{ reason, backfilledBy }] = group as [BackfillRequired];
    const tables = group.map(({ table }) => table).join(', ');
    const subject = `backfill required (${reason}${backfilledBy === undefined ? '' : ', read'})`;
    if (backfilledBy !== undefined) return warn(subject, `${tables}: surplus documents may remain`, 'Run dify-es validate --full: it settles it.');
    if (reason === 'first-run') return warn(subject, `${tables}: what was there before the reader is still to be read`, 'Run dify-es migrate.');
    return fail(subject, `${tables}: changes may be missing`, 'Run dify-es migrate without filters, then dify-es validate --full.');
  });
}

function ofRuns(runs: readonly RunView[], { backfillStoodSince, nowMs }: Movement): Finding[] {
  const open = runs.find(({ state }) => state === 'open');
  if (!open || backfillStoodSince === null || nowMs - backfillStoodSince < STOOD_MS) return [];
  return [warn('backfill', `open since ${open.startedAt.slice(0, 16).replace('T', ' ')} and not moving`, 'Run dify-es migrate again: it goes on where it was.')];
}

function ofLetters(open: number): Finding[] {
  return open === 0 ? [] : [warn('dead letters', `${open.toLocaleString('en-US')} open: their rows are kept apart and not in Elasticsearch`, 'dify-es dlq list names them, dify-es dlq redrive sends them again.')];
}
