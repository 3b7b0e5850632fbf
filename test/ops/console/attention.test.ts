import { describe, expect, it } from 'vitest';
import { attentionOf, type Movement } from '../../../src/ops/console/attention.ts';
import { Observed } from '../../../src/ops/console/events.ts';
import type { Seen } from '../../../src/ops/console/look.ts';
import { runView, type FlowView } from '../../../src/ops/console/view.ts';
import type { RunStatus } from '../../../src/ops/status/recorded-state.ts';

const NOW = 10_000_000;
const seen = <T>(value: T): Seen<T> => ({ state: 'seen', at: NOW, value });
const away = { state: 'away', since: NOW, code: 'ES_UNREACHABLE', message: 'Elasticsearch does not answer', cure: 'Check it.', last: null } as const;
const still: Movement = { letters: seen({ open: 0, groups: [] }), sinksStoodSince: null, backfillStoodSince: null, nowMs: NOW };
const slot = { name: 's', active: true, walStatus: 'reserved', confirmedLsn: '0/10', lagBytes: 0, lagSeconds: 0, invalidation: null } as const;
const wal = { level: 'ok', retainedBytes: 1, limitBytes: 100, share: 0.01, bytesPerSecond: 0, secondsLeft: null } as const;
const source = { version: '18.4', currentLsn: '0/10', slot, wal, tables: [{ table: 'workflow_runs', published: true, identityUsable: true }] };
const group = { group: 'g', state: 'Stable', members: 1, drained: true, tables: [{ table: 'workflow_runs', behind: 0, end: 9, settled: 9 }] } as const;
const well: Omit<FlowView, 'attention'> = {
  installation: { slot: 's', topicPrefix: 't', group: 'g', indexPrefix: 'i' },
  source: seen(source), group: seen(group), kafka: seen({ brokers: 1, topics: [{ topic: 't', exists: true, partitions: 1, replicationFactor: 1, underReplicated: 0 }] }),
  elasticsearch: seen({ cluster: 'c', version: '9', nodes: 1, health: 'green', documents: 0, bytes: 0, indices: 0, closed: 0, relaxed: [], tables: [] }),
  recorded: seen({ epoch: null, required: [], runs: [] }),
  rates: { wal: null, backfill: null, published: null, settled: null, indexed: null }, parts: [],
};
const subjects = (view: Partial<typeof well>, movement: Partial<Movement> = {}): string[] => attentionOf({ ...well, ...view }, { ...still, ...movement }).map(({ level, subject }) => `${level} ${subject}`);
const required = (table: 'workflow_runs' | 'workflow_app_logs', reason: 'first-run' | 'slot-lost') => ({ table, reason, sinceLsn: '0/1', sinceEpoch: 1, reconcile: false, at: '2026-01-01T00:00:00Z' });

describe('what needs attention', () => {
  it('is nothing while all is well', () => expect(subjects({})).toEqual([]));

  it('is a server that is away, and not what only it could tell', () => {
    expect(subjects({ elasticsearch: away })).toEqual(['fail Elasticsearch']);
    expect(subjects({ kafka: away, group: away })).toEqual(['fail Kafka']);
  });

  it('is a slot that nobody reads, has none of, or holds back too much', () => {
    expect(subjects({ source: seen({ ...source, slot: { ...slot, active: false } }) })).toEqual(['fail slot']);
    expect(subjects({ source: seen({ ...source, slot: null, wal: null }) })).toEqual(['fail slot']);
    expect(subjects({ source: seen({ ...source, wal: { ...wal, level: 'past' } }) })).toEqual(['fail WAL']);
    expect(subjects({ source: seen({ ...source, wal: { ...wal, level: 'unlimited', limitBytes: null, share: null } }) })).toEqual(['warn WAL']);
  });

  it('is a table whose changes fail or are lost', () => {
    expect(subjects({ source: seen({ ...source, tables: [{ table: 'workflow_runs', published: false, identityUsable: false }] }) })).toEqual(['fail identity of workflow_runs', 'fail publication of workflow_runs']);
  });

  it('is a group without members that is behind, or one that does not get on, and not one that does', () => {
    const behind = { ...group, drained: false, tables: [{ table: 'workflow_runs', behind: 5, end: 9, settled: 4 }] } as const;
    expect(subjects({ group: seen({ ...behind, members: 0 }) })).toEqual(['fail sinks']);
    expect(subjects({ group: seen(behind) }, { sinksStoodSince: NOW - 60_000 })).toEqual(['warn sinks']);
    expect(subjects({ group: seen(behind) }, { sinksStoodSince: NOW - 5_000 })).toEqual([]);
  });

  it('is a backfill that is required, the tables of one reason together and a first one as no alarm', () => {
    expect(subjects({ recorded: seen({ epoch: null, runs: [], required: [required('workflow_runs', 'first-run'), required('workflow_app_logs', 'first-run')] }) })).toEqual(['warn backfill required (first-run)']);
    expect(subjects({ recorded: seen({ epoch: null, runs: [], required: [required('workflow_runs', 'slot-lost')] }) })).toEqual(['fail backfill required (slot-lost)']);
  });

  it('is dead letters that are open; every matter has a cure, and the worst comes first', () => {
    const found = attentionOf({ ...well, elasticsearch: away }, { ...still, letters: seen({ open: 3, groups: [] }) });
    expect(found.map(({ level }) => level)).toEqual(['fail', 'warn']);
    for (const { cure } of found) expect(cure!.length).toBeGreaterThan(5);
  });
});

describe('events', () => {
  it('are what began and what was settled between two looks, and not what was there at the first', () => {
    const observed = new Observed();
    const at = (seconds: number) => new Date(seconds * 1000);
    const [one, two] = [{ level: 'fail', subject: 'Kafka', message: 'away', cure: 'x' }, { level: 'warn', subject: 'WAL', message: 'near', cure: 'y' }] as const;
    observed.findings([one], at(1));
    observed.findings([one, two], at(2));
    observed.findings([{ ...two, message: 'nearer' }], at(3));
    observed.members(1, at(4));
    observed.members(1, at(5));
    observed.members(2, at(6));
    expect(observed.events.map(({ level, subject, message }) => `${level} ${subject}: ${message}`)).toEqual(['warn WAL: near', 'ok Kafka: in order again', 'ok sinks: 2 in the group, 1 before']);
  });
});

describe('a backfill', () => {
  const run: RunStatus = {
    runId: 'r', state: 'open', startedAt: '2026-01-01T00:00:00Z', endedAt: null, filter: { tables: ['workflow_runs', 'workflow_app_logs'], tenantIds: [], from: null, before: null },
    tables: [{ table: 'workflow_runs', rows: 90, bytes: 1, share: 0.9, pages: 900 }, { table: 'workflow_app_logs', rows: 0, bytes: 0, share: 0, pages: 100 }],
  };
  it('is weighed by pages, and its time left is that of its own pace', () => {
    const rates = new Map([['share/r/', 0.01], ['rows/r/', 50]]);
    expect(runView(run, { perSecond: (name) => rates.get(name) ?? null })).toMatchObject({ share: 0.81, rowsPerSecond: 50, secondsLeft: expect.closeTo(19), only: '2 of 4 tables', tables: [{ secondsLeft: null }, {}] });
    expect(runView(run, { perSecond: () => 0 })).toMatchObject({ secondsLeft: null });
  });
});
