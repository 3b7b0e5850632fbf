import { describe, expect, it } from 'vitest';
import { answerOf } from '../../../src/cli/status.ts';
import { printStatus } from '../../../src/cli/status-text.ts';
import { DifyEsError } from '../../../src/core/errors.ts';
import { stateKeys, type BackfillRun, type SegmentProgress, type TruncateRecord } from '../../../src/core/state.ts';
import { failedPart, readPart } from '../../../src/ops/status/part.ts';
import { readRecorded } from '../../../src/ops/status/recorded-state.ts';
import type { Status } from '../../../src/ops/status/status.ts';

const [ONE, TWO] = ['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002'];

function control(records: Readonly<Record<string, unknown>>) {
  return {
    get: <T>(key: string) => records[key] as T | undefined,
    entries: <T>(prefix: string) => Object.entries(records).filter(([key]) => key.startsWith(prefix)).sort() as [string, T][],
  };
}

const run = (runId: string, state: BackfillRun['state'], startedAt: string): BackfillRun => ({
  runId, state, epoch: 1, slot: 's', barrierLsn: '0/1', startedAt, endedAt: null,
  filter: { tables: ['workflow_runs'], tenantIds: [ONE], from: null, before: '2026-01-01 00:00:00' },
  tables: { workflow_runs: { relfilenode: '1', blocks: 1000, segmentBlocks: 300, estimatedRows: 5000, scan: 2 } },
});
const progress = (nextBlock: number, done: boolean, rows: number): SegmentProgress => ({ nextBlock, done, rows, bytes: rows * 10 });

const RECORDS = {
  [stateKeys.run('old')]: run('old', 'done', '2026-08-01'),
  [stateKeys.run('now')]: run('now', 'open', '2026-07-01'),
  [stateKeys.segment('now', 'workflow_runs', 2, 0)]: progress(300, true, 1500),
  [stateKeys.segment('now', 'workflow_runs', 2, 1)]: progress(450, false, 700),
  // the last segment is shorter than the others
  [stateKeys.segment('now', 'workflow_runs', 2, 3)]: progress(1000, true, 400),
  // of a scan that a rewrite of the table made void
  [stateKeys.segment('now', 'workflow_runs', 1, 2)]: progress(900, true, 9999),
  [stateKeys.truncate('workflow_runs', '0/5')]: { table: 'workflow_runs', lsn: '0/5', policy: 'ignore', applied: false, at: 'then' } satisfies TruncateRecord,
  [stateKeys.truncate('workflow_runs', '0/6')]: { table: 'workflow_runs', lsn: '0/6', policy: 'apply', applied: true, at: 'then' } satisfies TruncateRecord,
  [stateKeys.switched(ONE)]: { tenantId: ONE, at: 'then', lsn: '0/1' },
  [stateKeys.switched(TWO)]: { tenantId: TWO, at: 'then', lsn: '0/1' },
  [stateKeys.required('workflow_runs')]: { table: 'workflow_runs', reason: 'slot-created', sinceLsn: '0/9', sinceEpoch: 1, reconcile: true, at: 'then' },
  [stateKeys.cleanup('c')]: { runId: 'c', state: 'done', tenantId: ONE, before: '2026-01-01', at: 'then' },
};

describe('the recorded state', () => {
  it('tells how much of each table an open run has read, by the pages of its present scan', () => {
    const { runs } = readRecorded(control(RECORDS), null);
    expect(runs.map(({ runId }) => runId)).toEqual(['now', 'old']);
    // 300 of the first segment, 150 of the second, none of the third, 100 of the last
    expect(runs[0]!.tables).toEqual([{ table: 'workflow_runs', rows: 2600, bytes: 26_000, share: 0.55, pages: 1_000 }]);
    expect(runs[1]!.tables[0]!.share).toBe(1);
  });

  it('shows TRUNCATEs that were ignored, requirements and switched tenants, and no clean-up that has ended', () => {
    const state = readRecorded(control(RECORDS), null);
    expect(state.truncatesIgnored.map(({ lsn }) => lsn)).toEqual(['0/5']);
    expect(state.required).toHaveLength(1);
    expect(state.switched).toHaveLength(2);
    expect(state.cleanups).toEqual([]);
    expect(state.epoch).toBeNull();
  });

  it('narrows to a tenant what belongs to tenants', () => {
    expect(readRecorded(control(RECORDS), TWO).switched.map(({ tenantId }) => tenantId)).toEqual([TWO]);
  });
});

describe('a part of the status', () => {
  it('that throws, or does not answer, says why and hides nothing else', async () => {
    expect(await readPart('PG_UNREACHABLE', () => new Promise(() => undefined), 20)).toMatchObject({ ok: false, code: 'PG_UNREACHABLE', message: 'no answer within 0.02 s' });
    expect(await readPart('PG_UNREACHABLE', () => Promise.reject(new DifyEsError('PG_AUTH', 'no')))).toMatchObject({ ok: false, code: 'PG_AUTH' });
    expect(await readPart('PG_UNREACHABLE', async () => 7)).toEqual({ ok: true, value: 7 });
  });

  it('is printed beside the others, and decides the exit code', () => {
    const away = failedPart(new DifyEsError('KAFKA_UNREACHABLE', 'gone'));
    const status: Status = {
      source: {
        ok: true,
        value: {
          version: '18.4', currentLsn: '0/10', slot: { name: 's', active: false, walStatus: 'reserved', confirmedLsn: '0/1', lagBytes: 2048, lagSeconds: 90, invalidation: null },
          wal: { level: 'near', retainedBytes: 8 << 20, limitBytes: 10 << 20, share: 0.8, bytesPerSecond: 1024, secondsLeft: 2048 },
          tables: [{ table: 'workflow_runs', published: false, identityUsable: false }],
        },
      },
      kafka: away, group: away, letters: away,
      state: { ok: true, value: readRecorded(control(RECORDS), null) },
      elasticsearch: { ok: true, value: { cluster: 'c', version: '9.5.3', nodes: 1, health: 'green', indices: [], relaxed: [] } },
    };
    const lines: string[] = [];
    printStatus(status, { line: (text = '') => void lines.push(text), table: () => undefined });
    const text = lines.join('\n');
    expect(text).toContain('slot s: NOBODY READS IT · confirmed 0/1 · lag 2.0 kB, 2 min');
    expect(text).toContain('WAL held back: 8.0 MB · 80.0 % of 10.0 MB · grows by 1.0 kB/s, full in 34 min');
    expect(text).toContain('IDENTITY BROKEN: workflow_runs');
    expect(text).toContain('NOT PUBLISHED: workflow_runs');
    expect(text).toContain('Kafka         cannot be read: gone');
    expect(text).toContain('BACKFILL REQUIRED: workflow_runs (slot-created, since 0/9)');
    expect(text).toContain('TRUNCATE of workflow_runs at 0/5');
    expect(answerOf(status)).toBe(3);
    expect(answerOf({ ...status, kafka: status.source as never, group: status.source as never, letters: failedPart(new DifyEsError('KAFKA_TOPIC_MISSING', 'x')) })).toBe(1);
  });
});
