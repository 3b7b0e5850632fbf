import { describe, expect, it } from 'vitest';
import type { BackfillRequired, BackfillRun } from '../../../src/core/state.ts';
import { monthsToCome, shardsToCome } from '../../../src/ops/cutover/elastic.ts';
import { backfillFinding, isQuickRefresh, isReady, lettersFinding, refreshFinding, shardsFinding, slotFinding, validationFinding } from '../../../src/ops/cutover/findings.ts';
import { allReady, settingsLines } from '../../../src/ops/cutover/settings.ts';
import type { SlotState } from '../../../src/pipeline/capture/slot.ts';

const T = 'tenant';
const run = (state: BackfillRun['state'], tenantIds: string[], more: Partial<BackfillRun> = {}): BackfillRun =>
  ({ runId: 'b', state, epoch: 1, slot: 's', barrierLsn: '0/20', filter: { tables: ['workflow_runs'], tenantIds, from: null, before: null }, tables: {}, startedAt: 'then', endedAt: null, ...more });
const required = (more: Partial<BackfillRequired> = {}): BackfillRequired => ({ table: 'workflow_runs', reason: 'first-run', sinceLsn: '0/10', sinceEpoch: 1, reconcile: false, at: 'then', ...more });
const slot = (more: Partial<SlotState> = {}): SlotState => ({ name: 's', activePid: 7, confirmedFlushLsn: 1n, walStatus: 'reserved', ...more }) as SlotState;

describe('the backfill of a tenant', () => {
  it('is complete when nothing is required, or when a run of the tenant itself has read what is', () => {
    expect(backfillFinding(T, [], []).level).toBe('ok');
    expect(backfillFinding(T, [run('done', [T])], [required()]).level).toBe('ok');
    expect(backfillFinding(T, [], [required({ backfilledBy: 'b' })]).level).toBe('ok');
  });

  it.each([
    ['no run', []],
    ['another tenant', [run('done', ['other'])]],
    ['a run before the reason', [run('done', [T], { barrierLsn: '0/5' })]],
    ['a run of an older epoch', [run('done', [T], { epoch: 0 })]],
    ['a part of its time', [run('done', [T], { filter: { tables: ['workflow_runs'], tenantIds: [T], from: '2025-01-01', before: null } })]],
    ['another table', [run('done', [T], { filter: { tables: ['workflow_app_logs'], tenantIds: [T], from: null, before: null } })]],
    ['an abandoned run', [run('void', [T])]],
  ])('is not complete by %s', (_, runs) => {
    expect(backfillFinding(T, runs, [required()]).level).toBe('fail');
  });

  it('is not complete while a run over the tenant is open', () => {
    expect(backfillFinding(T, [run('open', [])], []).level).toBe('fail');
    expect(backfillFinding(T, [run('open', ['other'])], []).level).toBe('ok');
  });
});

describe('the other findings', () => {
  it('want a slot that is whole and being read', () => {
    expect([slot(), undefined, slot({ walStatus: 'lost' }), slot({ walStatus: 'unreserved' }), slot({ activePid: null })].map((each) => slotFinding(each, 's').level)).toEqual(['ok', 'fail', 'fail', 'fail', 'fail']);
  });

  it('want no open dead letter, and count the accepted ones', () => {
    expect(lettersFinding({ open: 1, accepted: 0, unattributed: 0 }).level).toBe('fail');
    expect(lettersFinding({ open: 0, accepted: 2, unattributed: 0 })).toMatchObject({ level: 'ok', message: expect.stringContaining('2 accepted') });
    expect(lettersFinding({ open: 0, accepted: 0, unattributed: 1 }).level).toBe('warn');
  });

  it('want equality that was seen', () => {
    const counts = { rows: 1, documents: 1, differences: 0 };
    expect(validationFinding('equal', { rows: 0, documents: 0, differences: 0 }, T), 'a typing error in the id is no tenant to be switched').toMatchObject({ level: 'fail' });
    expect((['equal', 'different', 'unsettled', null] as const).map((verdict) => validationFinding(verdict, counts, T).level)).toEqual(['ok', 'fail', 'fail', 'fail']);
  });

  it('want room for the shards of the next month of all tenants', () => {
    expect(shardsFinding({ used: 992, limit: 1000, needed: 8, tenants: 2 }).level).toBe('ok');
    expect(shardsFinding({ used: 993, limit: 1000, needed: 8, tenants: 2 })).toMatchObject({ level: 'fail', message: '993 of 1000 in use, up to 8 more for the next month of all 2 tenants' });
  });

  it('want a refresh of a second or less for what is there and what is to come', () => {
    expect(['1s', '500ms', undefined, '2s', '30s', '-1', '0s', '1m'].map(isQuickRefresh)).toEqual([true, true, true, false, false, false, false, false]);
    expect([refreshFinding([], [], []), refreshFinding(['a'], [], []), refreshFinding([], ['b'], []), refreshFinding([], [], ['c'])].map(({ level }) => level)).toEqual(['ok', 'fail', 'fail', 'fail']);
  });

  it('make a tenant ready unless one says no', () => {
    expect(isReady([lettersFinding({ open: 0, accepted: 0, unattributed: 1 })])).toBe(true);
    expect(isReady([lettersFinding({ open: 1, accepted: 0, unattributed: 0 })])).toBe(false);
  });
});

it('counts the shards of every tenant and copy that the next month may ask for, without indices that are there', () => {
  const [a, b] = ['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222'] as const;
  const existing = new Set([`dify-workflow-app-logs-${a}-2026.01`, `dify-workflow-app-logs-${b}-2025.12`, `else-workflow-app-logs-${b}-2026.01`]);
  const count = (settings: { shards: number; replicas: number }): number => shardsToCome([a, b], existing, { prefix: 'dify', ...settings }, '2026.01');
  expect([count({ shards: 1, replicas: 0 }), count({ shards: 2, replicas: 1 })]).toEqual([7, 28]);
});

it('knows the current and the coming month across the end of a year', () => {
  expect(monthsToCome(new Date('2025-12-31T23:59:59Z'))).toEqual(['2025.12', '2026.01']);
});

it('prints the settings of Dify only when all tenants are ready, reads before writes', () => {
  const row = (state: 'open' | 'ready' | 'switched') => ({ tenantId: T, state, since: null, indices: 0, documents: 0 });
  expect(settingsLines([row('ready'), row('open')]).join('\n')).not.toContain('_REPOSITORY');
  expect([allReady([]), allReady([row('ready'), row('open')]), allReady([row('ready'), row('switched')])]).toEqual([false, false, true]);
  expect(settingsLines([]).join('\n')).toMatch(/There is no tenant/);
  expect(settingsLines([]).join('\n')).not.toMatch(/_REPOSITORY|ready/);
  const text = settingsLines([row('ready'), row('switched')]).join('\n');
  expect(text).toMatch(/no release.*whole Dify process.*API_WORKFLOW_RUN_REPOSITORY.*CORE_WORKFLOW_EXECUTION_REPOSITORY.*CORE_WORKFLOW_NODE_EXECUTION_REPOSITORY/s);
});
