import { describe, expect, test } from 'vitest';
import { TABLES } from '../../../src/core/contracts.ts';
import { DifyEsError } from '../../../src/core/errors.ts';
import type { BackfillFilter, BackfillRequired, BackfillRun } from '../../../src/core/state.ts';
import { filterSql, normalizeFilter, readsWholeTables, sameFilter } from '../../../src/pipeline/backfill/filter.ts';
import { JobQueue } from '../../../src/pipeline/backfill/job-queue.ts';
import { RateLimit } from '../../../src/pipeline/backfill/rate-limit.ts';
import { pauseMs, PublishFailure, remedyFor } from '../../../src/pipeline/backfill/retry.ts';
import { clearRequired, decideStart, satisfies, stopReason, voidReason } from '../../../src/pipeline/backfill/run-record.ts';
import { usesIndex } from '../../../src/pipeline/backfill/table-plan.ts';
import { MemoryKafka } from './memory-kafka.ts';

const TENANT = '00000000-0000-4000-8000-00000000000a';
const ALL: BackfillFilter = { tables: TABLES, tenantIds: [], from: null, before: null };
const ONE: BackfillFilter = { ...ALL, tenantIds: [TENANT] };
const NOW = { epoch: 2, slot: 'dify' };

const run = (over: Partial<BackfillRun> = {}): BackfillRun => ({
  runId: 'r', state: 'open', epoch: 2, slot: 'dify', barrierLsn: '0/A000', filter: ALL, tables: {}, startedAt: '', endedAt: null, ...over,
});
const required = (over: Partial<BackfillRequired> = {}): BackfillRequired => ({
  table: 'workflow_runs', reason: 'slot-created', sinceLsn: '0/9000', sinceEpoch: 2, reconcile: false, at: 't1', ...over,
});

describe('which run migrate goes on with', () => {
  test('the open one of the same filter; with another filter it refuses; without an open one it begins', () => {
    expect(decideStart([run()], ALL, NOW, [])).toMatchObject({ kind: 'resume', run: { runId: 'r' } });
    expect(decideStart([run()], ONE, NOW, [])).toMatchObject({ kind: 'refuse' });
    expect(decideStart([run({ state: 'done' }), run({ state: 'void' })], ONE, NOW, [])).toEqual({ kind: 'new', voided: [] });
  });

  test('an open run of another epoch, another slot or from before a gap in the stream is void and refuses nobody', () => {
    for (const [open, gaps] of [[run({ epoch: 1 }), []], [run({ slot: 'old' }), []], [run(), [required({ sinceLsn: '0/A001' })]]] as const) {
      expect(decideStart([open], ONE, NOW, gaps)).toMatchObject({ kind: 'new', voided: [{ run: open }] });
    }
  });

  test('LSNs are compared as numbers: 10/0 lies above A/0', () => {
    expect(voidReason(run({ barrierLsn: 'A/0' }), NOW, [required({ sinceLsn: '10/0' })])).toContain('slot-created');
    expect(voidReason(run({ barrierLsn: '10/0' }), NOW, [required({ sinceLsn: 'A/0' })])).toBeUndefined();
  });

  test('a changed schema asks for another run of its table but does not void this one', () => {
    expect(voidReason(run(), NOW, [required({ reason: 'schema-drift', sinceLsn: '0/F000' })])).toBeUndefined();
  });

  test('a reading run stops when it was abandoned or a new epoch began', () => {
    const kafka = new MemoryKafka();
    const control = kafka.controlLog();
    kafka.put('backfill/run/r', run());
    expect(stopReason(control, run())).toBeUndefined();
    kafka.put('epoch', { epoch: 3, slot: 'dify' });
    expect(stopReason(control, run())).toContain('epoch 3');
    kafka.control.delete('epoch');
    kafka.put('backfill/run/r', run({ state: 'void' }));
    expect(stopReason(control, run())).toContain('abandoned');
  });
});

describe('BACKFILL REQUIRED', () => {
  test('is satisfied by a run over the whole table whose barrier and epoch are not below it', () => {
    expect(satisfies(run(), required({ sinceLsn: '0/A000' }))).toBe('yes');
    expect(satisfies(run(), required({ sinceLsn: '0/A001' }))).toBe('no');
    expect(satisfies(run(), required({ sinceEpoch: 3 }))).toBe('no');
    expect(satisfies(run({ filter: ONE }), required())).toBe('no');
    expect(satisfies(run({ filter: { ...ALL, from: '2026-01-01' } }), required())).toBe('no');
    expect(satisfies(run({ filter: { ...ALL, tables: ['workflow_app_logs'] } }), required())).toBe('no');
    expect(satisfies(run(), required({ reconcile: true }))).toBe('reconcile-left');
  });

  test('is taken back where satisfied, kept with the run where a reconcile is asked, and left where the run is too old', async () => {
    const kafka = new MemoryKafka();
    kafka.put('backfill/required/workflow_runs', required());
    kafka.put('backfill/required/workflow_app_logs', required({ table: 'workflow_app_logs', reconcile: true }));
    kafka.put('backfill/required/workflow_node_executions', required({ table: 'workflow_node_executions', sinceLsn: '0/B000', reason: 'schema-drift' }));
    expect(await clearRequired(kafka.controlLog(), run())).toEqual(['workflow_app_logs', 'workflow_node_executions']);
    expect(kafka.control.get('backfill/required/workflow_app_logs')).toMatchObject({ reconcile: true, backfilledBy: 'r' });
    expect(kafka.control.get('backfill/required/workflow_node_executions')).not.toHaveProperty('backfilledBy');
  });

  test('recorded anew before the old one is taken back stays', async () => {
    const kafka = new MemoryKafka();
    const control = kafka.controlLog();
    kafka.put('backfill/required/workflow_runs', required());
    const racing: typeof control = { ...control, change: (decide) => {
      decide();
      // the reader came first, so it is decided again
      kafka.put('backfill/required/workflow_runs', required({ at: 't2', reason: 'schema-drift', sinceLsn: '0/C000' }));
      return control.change(decide);
    } };
    expect(await clearRequired(racing, run())).toEqual(['workflow_runs']);
    expect(kafka.control.get('backfill/required/workflow_runs')).toMatchObject({ at: 't2', reason: 'schema-drift' });
  });
});

describe('filters', () => {
  test('are the same however they were written', () => {
    const a = normalizeFilter({ tables: ['workflow_app_logs', 'workflow_runs'], tenantIds: [TENANT.toUpperCase(), TENANT], from: '2026-01-01T10:00', before: null });
    const b = normalizeFilter({ tables: ['workflow_runs', 'workflow_app_logs'], tenantIds: [TENANT], from: '2026-01-01 10:00', before: null });
    expect(sameFilter(a, b)).toBe(true);
    expect(sameFilter(a, { ...b, before: '2026-02-01' })).toBe(false);
  });

  test('become SQL with from inclusive and before exclusive', () => {
    expect(filterSql(normalizeFilter({ ...ONE, from: '2026-01-01', before: '2026-02-01' }))).toBe(
      `tenant_id = ANY ('{${TENANT}}'::uuid[]) AND created_at >= '2026-01-01'::timestamp AND created_at < '2026-02-01'::timestamp`,
    );
    expect(filterSql(ALL)).toBeNull();
    expect([readsWholeTables(ALL), readsWholeTables(ONE)]).toEqual([true, false]);
  });

  test.each(["x'; DROP TABLE workflow_runs; --", '2026-13-99', '2026-02-30', '2026-01-01 25:00', '2026-01-01 10:00:00+02', ''])('refuse the date %j', (from) => {
    expect(() => normalizeFilter({ ...ALL, from })).toThrow(DifyEsError);
  });

  test.each(["'; --", '*', '0000'])('refuse the tenant %j', (tenant) => {
    expect(() => normalizeFilter({ ...ALL, tenantIds: [tenant] })).toThrow(DifyEsError);
  });
});

describe('what becomes of an error in mid-chunk', () => {
  const sqlstate = (code: string): Error => Object.assign(new Error('server'), { code });

  test('passing ones are repeated, changes of the table described anew, all others stop the run', () => {
    for (const code of ['08006', '57P01', '53300', '40001', '55P03', 'ECONNRESET']) expect(remedyFor(sqlstate(code), false)).toBe('again');
    for (const code of ['42P01', '42703']) expect(remedyFor(sqlstate(code), false)).toBe('describe');
    for (const code of ['XX001', '42501', '22021']) expect(remedyFor(sqlstate(code), false)).toBe('stop');
    expect(remedyFor(new Error('Connection terminated unexpectedly'), true)).toBe('again');
    expect(remedyFor(new Error('what is this'), false)).toBe('stop');
  });

  test('a fenced writer stops, another failure of Kafka does not', () => {
    expect(remedyFor(new PublishFailure(new DifyEsError('KAFKA_FENCED', 'x')), false)).toBe('stop');
    expect(remedyFor(new PublishFailure(new DifyEsError('KAFKA_UNREACHABLE', 'x')), false)).toBe('again');
    expect(remedyFor(new PublishFailure(new Error('leader not available')), false)).toBe('again');
    expect(remedyFor(new PublishFailure(new TypeError('a fault of ours')), false)).toBe('stop');
  });

  test('pauses grow to five seconds', () => {
    expect([1, 2, 3, 6, 7, 60].map(pauseMs)).toEqual([100, 200, 400, 3200, 5000, 5000]);
  });
});

describe('the rate limit', () => {
  test('holds the average without bursts after a pause', () => {
    const rate = new RateLimit(1000);
    let now = 0;
    let rows = 0;
    for (let i = 0; i < 50; i++) {
      now += rate.waitMs(now);
      expect(rate.waitMs(now)).toBe(0);
      rate.spend(500);
      rows += 500;
    }
    expect(rows / (now / 1000)).toBeCloseTo(1000, -2);
    now += 3_600_000;
    rate.waitMs(now);
    rate.spend(3000);
    expect(rate.waitMs(now)).toBe(2000);
  });

  test('0 means none', () => {
    const rate = new RateLimit(0);
    rate.spend(1e9);
    expect(rate.waitMs(0)).toBe(0);
  });
});

describe('the job queue', () => {
  test('a worker that finds nothing waits for what comes, and whoever comes is told', async () => {
    let asked = 0;
    const queue = new JobQueue<number>(() => asked++);
    const idle = queue.take();
    expect([asked, queue.ahead]).toEqual([1, -1]);
    queue.add([1, 2]);
    expect(await idle).toBe(1);
    expect(queue.ahead).toBe(1);
    expect(await queue.take()).toBe(2);
    const last = [queue.take(), queue.take()];
    queue.close();
    expect(await Promise.all(last)).toEqual([undefined, undefined]);
  });

  test('closing it ends those who wait, and jobs taken back are not given out', async () => {
    const queue = new JobQueue<number>();
    queue.add([1, 2, 3]);
    queue.removeIf((job) => job < 3);
    expect(await queue.take()).toBe(3);
    const waiting = queue.take();
    queue.close();
    expect(await waiting).toBeUndefined();
  });
});

test('a plan uses an index also below other nodes', () => {
  expect(usesIndex({ 'Node Type': 'Gather', 'Plan Rows': 1, Plans: [{ 'Node Type': 'Bitmap Heap Scan', 'Plan Rows': 1 }] })).toBe(true);
  expect(usesIndex({ 'Node Type': 'Append', 'Plan Rows': 1, Plans: [{ 'Node Type': 'Seq Scan', 'Plan Rows': 1 }] })).toBe(false);
});
