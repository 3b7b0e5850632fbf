import { stateKeys, type ControlLog, type ReadyRecord } from '../../core/state.ts';
import type { Finding, Level } from '../check/finding.ts';
import type { RecordedState } from '../status/recorded-state.ts';

/** Something that happened, for the list of the page; newest first there. Never a row's value. */
export interface Event {
  /** ISO 8601, UTC. */
  readonly at: string;
  readonly level: Level;
  readonly subject: string;
  readonly message: string;
  readonly cure: string | null;
}

const SHOWN = 60;
const KEPT = 200;

/** What was seen to change while this process looked. */
export class Observed {
  #events: Event[] = [];
  #standing: ReadonlyMap<string, Finding> | undefined;
  #members: number | undefined;

  get events(): readonly Event[] {
    return this.#events;
  }

  /** The findings of a look: one that is new has happened now, one that is gone is settled. The first look is no event. */
  findings(now: readonly Finding[], at: Date): void {
    const standing = new Map(now.map((finding) => [finding.subject, finding]));
    const before = this.#standing;
    this.#standing = standing;
    if (!before) return;
    for (const [subject, { level, message, cure }] of standing) if (before.get(subject)?.level !== level) this.#add({ at: at.toISOString(), level, subject, message, cure });
    for (const [subject] of before) if (!standing.has(subject)) this.#add({ at: at.toISOString(), level: 'ok', subject, message: 'in order again', cure: null });
  }

  members(count: number, at: Date): void {
    const before = this.#members;
    this.#members = count;
    if (before === undefined || before === count) return;
    this.#add({ at: at.toISOString(), level: 'ok', subject: 'sinks', message: `${count} in the group, ${before} before`, cure: null });
  }

  #add(event: Event): void {
    this.#events = [...this.#events.slice(-(KEPT - 1)), event];
  }
}

/** What the control topic remembers with its time: a page that was opened just now has a past too. */
export function recordedEvents(state: RecordedState, control: Pick<ControlLog, 'entries'>): Event[] {
  const happened = (at: string, subject: string, message: string): Event => ({ at, level: 'ok', subject, message, cure: null });
  const ready = control.entries<ReadyRecord>(stateKeys.ready('')).map(([, record]) => record);
  return [
    ...state.runs.flatMap((run) => [
      happened(run.startedAt, 'backfill', 'began'),
      ...(run.endedAt === null ? [] : [happened(run.endedAt, 'backfill', run.state === 'done' ? `done: ${run.tables.reduce((sum, { rows }) => sum + rows, 0).toLocaleString('en-US')} rows` : 'given up')]),
    ]),
    ...state.truncatesIgnored.map(({ table, at }): Event => ({ at, level: 'warn', subject: 'TRUNCATE', message: `${table} was emptied; its history stays in Elasticsearch`, cure: 'TRUNCATE_POLICY=apply would have deleted it too.' })),
    ...ready.map(({ tenantId, at }) => happened(at, 'cutover', `${tenantId} was found ready`)),
    ...state.switched.map(({ tenantId, at }) => happened(at, 'cutover', `${tenantId} was switched`)),
    ...state.retention.map(({ tenantId, throughMonth, at }) => happened(at, 'retention', `${tenantId} dropped through ${throughMonth}`)),
    ...state.cleanups.map(({ tenantId, before, at }) => happened(at, 'cleanup-pg', `${tenantId} before ${before.slice(0, 10)} is open`)),
    ...archived(state).map(({ tenantId, before, at }) => happened(at, 'cleanup-pg', `${tenantId} archived before ${before.slice(0, 10)}`)),
  ];
}

/** One of the four tables will do: they are archived together. */
function archived({ archived: records }: RecordedState): RecordedState['archived'] {
  return [...Map.groupBy(records, ({ tenantId, before }) => `${tenantId}/${before}`).values()].map((group) => group[0]!);
}

/** Both kinds, the newest first. */
export function timeline(...lists: readonly (readonly Event[])[]): Event[] {
  return lists.flat().sort((a, b) => (a.at < b.at ? 1 : -1)).slice(0, SHOWN);
}
