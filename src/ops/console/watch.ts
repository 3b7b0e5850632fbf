import type { Client } from '@elastic/elasticsearch';
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import { parseLsn } from '../../core/lsn.ts';
import { LETTER_CURES } from '../dead-letters/cures.ts';
import { readRecorded, type RecordedState } from '../status/recorded-state.ts';
import type { Health } from '../telemetry/health.ts';
import { attentionOf } from './attention.ts';
import { Observed, recordedEvents, timeline } from './events.ts';
import { lastOf, type Pace, type Seen } from './look.ts';
import { openLooks, type Looks, type OpenLooks } from './looks.ts';
import { Curve, Rates } from './rates.ts';
import { elasticTotals, runCounters, runView, shareOf, tenantViews, type FlowView } from './view.ts';

/** What a page shows, in parts that change at their own pace. Each is sent whole, and only when it is another text. */
export const SECTIONS = ['flow', 'letters', 'tenants', 'events', 'curve'] as const;
export type Section = (typeof SECTIONS)[number];

const POINT_EVERY_MS = 4_000;

/** Looks at the servers and makes the sections of the page of what was seen. */
export class Watch {
  readonly #config: Config;
  readonly #health: Health | null;
  readonly #open: OpenLooks;
  readonly #rates = new Rates();
  readonly #curve = new Curve();
  readonly #observed = new Observed();
  readonly #stood = { sinks: new Standing(), backfill: new Standing() };
  #pointAt = 0;
  /** As of the last look: thousands of segments are not added up for each section. */
  #recorded: RecordedState | null = null;

  /** `health`: of the parts of this process, where it has others. `onSeen` is called after each look. */
  constructor(config: Config, log: Logger, health: Health | null, onSeen: () => void) {
    this.#config = config;
    this.#health = health;
    this.#open = openLooks(config, log, (name) => {
      this.#note(name);
      onSeen();
    });
  }

  /** For searches: the same connections. */
  get client(): Client {
    return this.#open.client;
  }

  run(pace: Pace, signal: AbortSignal): Promise<void> {
    return this.#open.run(pace, signal);
  }

  close(): Promise<void> {
    return this.#open.close();
  }

  section(name: Section): unknown {
    const { looks } = this.#open;
    switch (name) {
      case 'flow': return this.#flow();
      case 'letters': return mapSeen(looks.letters.seen, ({ open, groups }) => ({ open, groups: groups.map((group) => ({ ...group, cure: LETTER_CURES[group.cause] })) }));
      case 'tenants': return this.#tenants();
      case 'events': return this.#events();
      case 'curve': return this.#curve.points;
      default: throw new TypeError(`unknown section ${String(name satisfies never)}`);
    }
  }

  #flow(): FlowView {
    const view = this.#view();
    return { ...view, attention: attentionOf(view, this.#movement()) };
  }

  #view(): Omit<FlowView, 'attention'> {
    const { source, kafka, group, control, elasticsearch } = this.#open.looks;
    const { postgres, kafka: { topicPrefix, group: groupId }, elasticsearch: { indexPrefix } } = this.#config;
    const rate = (name: string): number | null => this.#rates.perSecond(name);
    return {
      installation: { slot: postgres.slot, topicPrefix, group: groupId, indexPrefix },
      source: source.seen, kafka: kafka.seen, group: group.seen,
      elasticsearch: mapSeen(elasticsearch.seen, elasticTotals),
      recorded: mapSeen(control.seen, () => {
        const { epoch, required, runs } = this.#recorded!;
        return { epoch, required, runs: runs.map((run) => runView(run, this.#rates)) };
      }),
      rates: { wal: rate('wal'), backfill: rate('backfill'), published: rate('published'), settled: rate('settled'), indexed: rate('indexed') },
      parts: this.#health ? [...this.#health.parts].map(([part, state]) => ({ part, ...state })) : [],
    };
  }

  #movement() {
    return { letters: this.#open.looks.letters.seen, sinksStoodSince: this.#stood.sinks.since, backfillStoodSince: this.#stood.backfill.since, nowMs: Date.now() };
  }

  #tenants(): unknown {
    const { control, elasticsearch, tenants } = this.#open.looks;
    const view = lastOf(control.seen);
    const elastic = lastOf(elasticsearch.seen);
    if (!view || (!elastic && tenants.seen.state !== 'seen')) return null;
    return tenantViews(view, elastic?.indices ?? [], lastOf(tenants.seen) ?? new Set());
  }

  #events(): unknown {
    const view = lastOf(this.#open.looks.control.seen);
    return timeline(this.#observed.events, view && this.#recorded ? recordedEvents(this.#recorded, view) : []);
  }

  /** What a look adds to the counters. */
  #note(name: keyof Looks): void {
    const { source, group, elasticsearch } = this.#open.looks;
    const now = performance.now();
    if (name === 'source' && source.seen.state === 'seen') {
      const confirmed = source.seen.value.slot?.confirmedLsn;
      if (confirmed) this.#rates.add('wal', Number(parseLsn(confirmed)), now);
    }
    if (name === 'group' && group.seen.state === 'seen') {
      const { tables, members, drained } = group.seen.value;
      const end = tables.reduce((sum, table) => sum + table.end, 0);
      const settled = tables.reduce((sum, table) => sum + table.settled, 0);
      this.#rates.add('published', end, now);
      this.#rates.add('settled', settled, now);
      this.#stood.sinks.note(drained ? null : settled);
      this.#observed.members(members, new Date());
    }
    if (name === 'control') this.#noteRuns(now);
    if (name === 'elasticsearch' && elasticsearch.seen.state === 'seen') this.#rates.add('indexed', elasticsearch.seen.value.indices.reduce((sum, { operations }) => sum + operations, 0), now);
    if (now - this.#pointAt >= POINT_EVERY_MS) {
      this.#pointAt = now;
      this.#curve.add([Date.now(), this.#rates.perSecond('published'), this.#rates.perSecond('indexed')]);
    }
    if (this.#complete()) this.#observed.findings(attentionOf(this.#view(), this.#movement()), new Date());
  }

  #noteRuns(now: number): void {
    const view = lastOf(this.#open.looks.control.seen);
    if (!view) return;
    this.#recorded = readRecorded(view, null);
    const { runs } = this.#recorded;
    const open = runs.filter(({ state }) => state === 'open');
    for (const run of open) {
      const rows = run.tables.reduce((sum, table) => sum + table.rows, 0);
      this.#rates.add(runCounters.rows(run.runId, null), rows, now);
      this.#rates.add(runCounters.share(run.runId, null), shareOf(run), now);
      for (const { table, rows: own, share } of run.tables) {
        this.#rates.add(runCounters.rows(run.runId, table), own, now);
        this.#rates.add(runCounters.share(run.runId, table), share, now);
      }
    }
    const rows = runs.reduce((sum, run) => sum + run.tables.reduce((rowsOf, table) => rowsOf + table.rows, 0), 0);
    this.#rates.add('backfill', rows, now);
    this.#stood.backfill.note(open.length === 0 ? null : rows);
  }

  /** Before everything was looked at once, what is missing is no news. */
  #complete(): boolean {
    const { source, kafka, group, control, elasticsearch, letters } = this.#open.looks;
    return [source, kafka, group, control, elasticsearch, letters].every(({ seen }) => seen.state !== 'unseen');
  }
}

/** Since when a counter has stood still. */
class Standing {
  #value: number | null = null;
  #since: number | null = null;

  /** null: there is nothing that could move. */
  note(value: number | null): void {
    if (value === null) this.#since = null;
    else if (value !== this.#value || this.#since === null) this.#since = Date.now();
    this.#value = value;
  }

  get since(): number | null {
    return this.#since;
  }
}

function mapSeen<A, B>(seen: Seen<A>, map: (value: A) => B): Seen<B> {
  if (seen.state === 'unseen') return seen;
  if (seen.state === 'seen') return { ...seen, value: map(seen.value) };
  return { ...seen, last: seen.last && { at: seen.last.at, value: map(seen.last.value) } };
}

