import pino from 'pino';
import { describe, expect, test } from 'vitest';
import { DifyEsError } from '../../../src/core/errors.ts';
import { type BackfillMember, type BackfillRun, type ControlLog, type SegmentProgress, stateKeys } from '../../../src/core/state.ts';
import { batchOf, endsRun, membersToGiveUp } from '../../../src/pipeline/backfill/members.ts';
import { Sharing, type SharingContext } from '../../../src/pipeline/backfill/sharing.ts';
import { type Sign, Silence } from '../../../src/pipeline/backfill/silence.ts';
import type { PlannedTable } from '../../../src/pipeline/backfill/table-plan.ts';
import { TableScan } from '../../../src/pipeline/backfill/table-scan.ts';

const member = (memberId: string, over: Partial<BackfillMember> = {}): BackfillMember => ({ memberId, runId: 'r', workers: 2, lock: 7, segments: [], givenUp: false, at: '', ...over });

describe('who is gone', () => {
  const limits = { everyMs: 1000, silentMs: 6000 };
  const sign = (beat: number | undefined, locked: boolean | null = true): Sign[] => [{ memberId: 'm', beat, locked }];

  test('one that gives signs of life never is, whatever the database says of its session', () => {
    const silence = new Silence(limits);
    for (let at = 0; at < 60; at++) expect(silence.look(at * 1000, sign(at, false))).toEqual([]);
  });

  test('one without a sign is after the limit while its session is there, and soon without it', () => {
    const [still, dead, unknown] = [new Silence(limits), new Silence(limits), new Silence(limits)];
    const first = (silence: Silence, locked: boolean | null): number => {
      for (let at = 0; at < 60; at++) if (silence.look(at * 1000, sign(4, locked)).length > 0) return at;
      return Infinity;
    };
    expect([first(still, true), first(dead, false), first(unknown, null)]).toEqual([6, 3, 6]);
  });

  test('a session that was lost for a moment, as when PostgreSQL restarts, does not count', () => {
    const silence = new Silence(limits);
    const seen = [true, false, false, true, false, true].map((locked, at) => silence.look(at * 1000, sign(4, locked)));
    expect(seen.flat()).toEqual([]);
  });

  test('our own standstill, or a Kafka that was away from all, is not the silence of others', () => {
    const silence = new Silence(limits);
    silence.look(0, sign(4));
    expect(silence.look(3_600_000, sign(4))).toEqual([]);
    expect(silence.look(3_601_000, sign(5))).toEqual([]);
  });

  test('a process that never gave any sign is silent too', () => {
    const silence = new Silence(limits);
    const gone = Array.from({ length: 8 }, (_, at) => silence.look(at * 1000, sign(undefined)));
    expect(gone.at(-1)).toEqual(['m']);
  });
});

describe('the processes of a run', () => {
  test('one of those that can still write ends it, the same whoever asks', () => {
    const all = [member('c'), member('a', { givenUp: true }), member('b')];
    expect(['a', 'b', 'c'].filter((id) => endsRun(all, id))).toEqual(['b']);
  });

  test('before a run is opened all writers of all others are fenced; before one is joined those of other runs and of dead processes', () => {
    const all = [member('alive'), member('dead', { lock: 8 }), member('marked', { givenUp: true }), member('old', { runId: 'q' })];
    const isGone = ({ lock }: BackfillMember): boolean => lock === 8;
    const names = (run: BackfillRun | undefined): string[] => membersToGiveUp(all, run, isGone).map(({ memberId }) => memberId);
    expect(names({ runId: 'r' } as BackfillRun)).toEqual(['dead', 'marked', 'old']);
    expect(names(undefined)).toEqual(['alive', 'dead', 'marked', 'old']);
  });

  test('take seconds of work at a time, no more than their share, and at least one segment', () => {
    const batch = (over: object): number => batchOf({ free: 100, members: 1, workers: 2, secondsPerSegment: undefined, ...over });
    expect(batch({})).toBe(2);
    expect(batch({ secondsPerSegment: 0.1 })).toBe(60);
    expect(batch({ secondsPerSegment: 0.1, members: 4 })).toBe(25);
    expect(batch({ secondsPerSegment: 60 })).toBe(2);
    expect(batch({ free: 3, members: 3, secondsPerSegment: 0.1 })).toBe(1);
    expect(batch({ free: 0 })).toBe(0);
  });
});

describe('the scan of a table', () => {
  const progress = (nextBlock: number, rows: number, done = false): SegmentProgress => ({ nextBlock, done, rows, bytes: rows * 10 });
  const scanOf = (recorded: Readonly<Record<number, SegmentProgress>> = {}): TableScan => {
    const plan = { relfilenode: '1', blocks: 300, segmentBlocks: 128, estimatedRows: 30, scan: 2 };
    const scan = new TableScan('workflow_runs', { plan } as PlannedTable);
    scan.begin((_, segment) => recorded[segment]);
    return scan;
  };

  test('goes on where each segment was, and leaves out those that are done', () => {
    const scan = scanOf({ 0: progress(128, 10, true), 1: progress(200, 7) });
    expect(scan.remaining().map(({ open: { segment, progress: { nextBlock, rows } } }) => [segment.index, nextBlock, segment.to, rows])).toEqual([[1, 200, 256, 7], [2, 256, 300, 0]]);
    expect(scan.progress()).toMatchObject({ rows: 17, bytes: 170, blocksDone: 200, blocks: 300, done: false });
  });

  test('counts what any process has read, each step once', () => {
    const scan = scanOf();
    expect(scan.note(2, 1, progress(150, 5))).toBe(true);
    expect(scan.note(2, 1, progress(150, 5))).toBe(false);
    expect(scan.note(2, 1, progress(140, 3))).toBe(false);
    expect(scan.note(1, 1, progress(256, 50, true))).toBe(false);
    for (const [index, end] of [[0, 128], [1, 256], [2, 300]] as const) expect(scan.note(2, index, progress(end, 10, true))).toBe(true);
    expect(scan.note(2, 1, progress(160, 11))).toBe(false);
    expect(scan.progress()).toMatchObject({ rows: 30, bytes: 300, blocksDone: 300, done: true });
    expect(scan.remaining()).toEqual([]);
  });

  test('is planned anew by one worker at a time, also after the first has failed', async () => {
    const scan = scanOf();
    const stale = scan.planned!.source;
    let planning = 0;
    let most = 0;
    const plan = (outcome: () => PlannedTable) => async (): Promise<PlannedTable> => {
      most = Math.max(most, ++planning);
      await new Promise((resolve) => setTimeout(resolve, 5));
      planning--;
      return outcome();
    };
    const rewritten = { source: {}, plan: { ...scan.planned!.plan, scan: 3 } } as PlannedTable;
    const outcomes = await Promise.allSettled([
      scan.replan(stale, plan(() => { throw new Error('lock_timeout'); })),
      scan.replan(stale, plan(() => rewritten)),
      scan.replan(stale, plan(() => rewritten)),
    ]);
    expect(most).toBe(1);
    expect(outcomes.map((one) => (one.status === 'fulfilled' ? one.value : one.status))).toEqual(['rejected', true, false]);
  });
});

describe('the segments of a process', () => {
  test('reach its workers also when the answer of the change that took the last free ones was lost for good', async () => {
    const plan = { relfilenode: '1', blocks: 300, segmentBlocks: 128, estimatedRows: 30, scan: 1 };
    const scan = new TableScan('workflow_runs', { source: {}, plan } as PlannedTable);
    scan.begin(() => undefined);
    const values = new Map<string, unknown>([[stateKeys.run('r'), { runId: 'r', state: 'open', tables: { workflow_runs: plan } }], [stateKeys.member('r', 'm'), member('m', { workers: 3 })]]);
    let lost = 0;
    const control = {
      get: (key: string) => values.get(key),
      entries: (beginning: string) => [...values].filter(([key]) => key.startsWith(beginning)),
      refresh: () => Promise.resolve(),
      change(decide: Parameters<ControlLog['change']>[0]) {
        const { writes, result } = decide();
        for (const [key, value] of writes) values.set(key, value);
        return lost++ === 0 ? Promise.reject(new DifyEsError('KAFKA_UNREACHABLE', 'away for longer than a change waits')) : Promise.resolve(result);
      },
    } as unknown as ControlLog;
    const sharing = new Sharing({ control, member: member('m', { workers: 3 }), silentMs: 3000, retryForMs: 60_000, logger: pino({ level: 'silent' }), scans: [scan], checkRun: () => {}, followPlans: () => Promise.resolve() } as unknown as SharingContext);
    const stop = new AbortController();
    const supplied = sharing.supply(stop.signal);
    const jobs = await Promise.race([Promise.all([1, 2, 3].map(() => sharing.queue.take())), new Promise((resolve) => setTimeout(resolve, 2000))]);
    stop.abort();
    await supplied;
    expect((jobs as { open: { segment: { index: number } } }[] | undefined)?.map(({ open }) => open.segment.index)).toEqual([0, 1, 2]);
  });
});
