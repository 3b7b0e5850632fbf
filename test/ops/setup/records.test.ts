import { describe, expect, test } from 'vitest';
import { TABLES, type TableName } from '../../../src/core/contracts.ts';
import { parseLsn } from '../../../src/core/lsn.ts';
import { stateKeys, type BackfillRequired, type BackfillRun, type ControlLog, type EpochRecord } from '../../../src/core/state.ts';
import { refusal } from '../../../src/ops/cleanup-pg/records.ts';
import { recordSource, type Recording } from '../../../src/ops/setup/records.ts';
import { mergeRequired, voidReason } from '../../../src/pipeline/backfill/run-record.ts';
import type { ObservedSource } from '../../../src/pipeline/capture/epoch.ts';

const NOW = parseLsn('0/500');

/** A control topic in memory that fails before its nth write, as a process that is killed there. */
function controlLog(failBefore = Infinity): ControlLog & { readonly map: Map<string, unknown> } {
  const map = new Map<string, unknown>();
  let writes = 0;
  return {
    map,
    get: <T>(key: string) => map.get(key) as T | undefined,
    entries: <T>(prefix: string) => [...map].filter(([key]) => key.startsWith(prefix)).sort() as [string, T][],
    put: async (key, value) => {
      if (++writes === failBefore) throw new Error('killed');
      map.set(key, value);
    },
    remove: async (key) => void map.delete(key),
    change: async (decide) => {
      const change = decide();
      if (change.writes.length > 0 && ++writes === failBefore) throw new Error('killed');
      for (const [key, value] of change.writes) map.set(key, value);
      return change.result;
    },
    onChange: () => () => undefined,
    refresh: async () => undefined,
    close: async () => undefined,
  };
}

const source = (more: Partial<ObservedSource> = {}): ObservedSource => ({ systemIdentifier: '7', timeline: 1, currentLsn: NOW, slot: 'dify_es', slotConfirmedLsn: parseLsn('0/100'), ...more });
const oids = (oid = 1): { table: TableName; oid: number }[] => TABLES.map((table, i) => ({ table, oid: oid + i }));

function recording(control: ControlLog, more: Partial<Recording> = {}): Recording {
  return { control, recorded: control.get<EpochRecord>(stateKeys.epoch), observed: source(), tables: oids(), nowLsn: NOW, at: new Date(0), ...more };
}

const required = (control: ControlLog, table: TableName): BackfillRequired | undefined => control.get(stateKeys.required(table));

describe('what setup records', () => {
  test('the first run requires a backfill of all tables and begins epoch 1 at the slot', async () => {
    const control = controlLog();
    expect(await recordSource(recording(control))).toMatchObject({ required: [...TABLES], epoch: 1 });
    for (const table of TABLES) expect(required(control, table)).toMatchObject({ reason: 'first-run', reconcile: false, sinceLsn: '0/500', sinceEpoch: 1 });
    expect(control.get(stateKeys.epoch)).toMatchObject({ epoch: 1, highWaterLsn: '0/100', slot: 'dify_es' });
  });

  test('a second run records nothing', async () => {
    const control = controlLog();
    await recordSource(recording(control));
    const before = new Map(control.map);
    expect(await recordSource(recording(control, { at: new Date(1), nowLsn: parseLsn('0/900') }))).toMatchObject({ required: [], reasons: [] });
    expect(control.map).toEqual(before);
  });

  test('killed before any of its writes, the next run still requires the backfill', async () => {
    const whole = controlLog();
    await recordSource(recording(whole));
    for (let write = 1; write <= 6; write += 1) {
      const control = controlLog(write);
      await expect(recordSource(recording(control))).rejects.toThrow('killed');
      await recordSource(recording(control));
      for (const table of TABLES) expect(required(control, table), `killed before write ${write}`).toMatchObject({ sinceLsn: '0/500' });
      expect(control.get(stateKeys.epoch)).toEqual(whole.get(stateKeys.epoch));
    }
    await expect(recordSource(recording(controlLog(7)))).resolves.toBeDefined();
  });

  test('a slot above everything that was ever confirmed was made anew: all tables, extra documents too', async () => {
    const control = controlLog();
    await recordSource(recording(control));
    for (const table of TABLES) await control.remove(stateKeys.required(table));
    const run = { runId: 'r', state: 'open' } as BackfillRun;
    await control.put(stateKeys.run('r'), run);
    await recordSource(recording(control, { observed: source({ slotConfirmedLsn: parseLsn('0/400') }) }));
    for (const table of TABLES) expect(required(control, table)).toMatchObject({ reason: 'slot-created', reconcile: true, sinceEpoch: 1 });
    expect(control.get(stateKeys.epoch)).toMatchObject({ epoch: 1, highWaterLsn: '0/400' });
    expect(control.get(stateKeys.run('r'))).toMatchObject({ state: 'void' });
  });

  test('another server begins the next epoch', async () => {
    const control = controlLog();
    await recordSource(recording(control));
    await recordSource(recording(control, { observed: source({ timeline: 2 }) }));
    expect(control.get(stateKeys.epoch)).toMatchObject({ epoch: 2, timeline: 2 });
    for (const table of TABLES) expect(required(control, table)).toMatchObject({ reason: 'new-epoch', sinceEpoch: 2, reconcile: true });
  });

  test('while a reader holds the slot the epoch is left to it', async () => {
    const control = controlLog();
    await recordSource(recording(control));
    const epoch = control.get(stateKeys.epoch);
    expect(await recordSource(recording(control, { observed: null }))).toMatchObject({ required: [], epoch: null });
    expect(control.get(stateKeys.epoch)).toEqual(epoch);
  });

  test('a table that was published only now, or made anew under its name, is read again', async () => {
    const control = controlLog();
    await recordSource(recording(control, { tables: oids().slice(0, 3) }));
    for (const table of TABLES) await control.remove(stateKeys.required(table));
    const { required: due } = await recordSource(recording(control, { observed: null, nowLsn: parseLsn('0/800') }));
    expect(due).toEqual(['workflow_node_execution_offload']);
    expect(required(control, 'workflow_node_execution_offload')).toMatchObject({ reason: 'schema-drift', reconcile: true, sinceLsn: '0/800' });
    expect((await recordSource(recording(control, { tables: oids().map((t) => (t.table === 'workflow_runs' ? { ...t, oid: 99 } : t)) }))).required).toEqual(['workflow_runs']);
  });
});

describe('two requirements of one table', () => {
  const base: BackfillRequired = { table: 'workflow_runs', reason: 'slot-lost', sinceLsn: '0/900', sinceEpoch: 2, reconcile: true, at: 'x' };

  test('within an epoch the higher position counts, and a reconcile is never taken back', () => {
    expect(mergeRequired(base, { ...base, reason: 'schema-drift', sinceLsn: '0/A00', reconcile: false })).toMatchObject({ sinceLsn: '0/A00', reconcile: true });
    expect(mergeRequired(base, { ...base, sinceLsn: '0/100', reconcile: false })).toMatchObject({ sinceLsn: '0/900', reconcile: true });
  });

  test('a later epoch has positions of its own', () => {
    expect(mergeRequired(base, { ...base, sinceEpoch: 3, sinceLsn: '0/100', reconcile: false })).toMatchObject({ sinceEpoch: 3, sinceLsn: '0/100', reconcile: true });
  });

  test('an older epoch never counts again', () => {
    expect(mergeRequired(base, { ...base, sinceEpoch: 1, sinceLsn: '0/100' })).toMatchObject({ sinceEpoch: 2 });
  });

  const lost: BackfillRequired = { ...base, reason: 'kafka-data-lost' };
  test.each(['slot-created', 'slot-lost', 'new-epoch', 'source-restored', 'schema-drift'] as const)('that Kafka has lost its data stands above %s, and keeps cleanup-pg out, until the table was read again', (reason) => {
    const fresh: BackfillRequired = { ...base, reason, sinceEpoch: reason === 'new-epoch' ? 3 : 2, sinceLsn: '0/A00' };
    const merged = mergeRequired(lost, fresh);
    expect(merged).toMatchObject({ reason: 'kafka-data-lost', sinceLsn: '0/A00', sinceEpoch: fresh.sinceEpoch });
    expect(refusal([], [merged])).toContain('Kafka has lost its data');
    expect(mergeRequired({ ...lost, backfilledBy: 'b' }, fresh).reason).toBe(reason);
  });

  test('a drift does not hide a gap from the runs that began before it, nor void those that began behind it', () => {
    const run = (barrierLsn: string): BackfillRun => ({ runId: 'r', state: 'open', epoch: 2, slot: 's', barrierLsn, filter: { tables: TABLES, tenantIds: [], from: null, before: null }, tables: {}, startedAt: '', endedAt: null });
    const drift = (sinceLsn: string): BackfillRequired => ({ ...base, reason: 'schema-drift', sinceLsn, reconcile: false });
    const twice = mergeRequired(mergeRequired(base, drift('0/A00')), drift('0/B00'));
    expect(twice).toMatchObject({ reason: 'slot-lost', sinceLsn: '0/B00', reconcile: true });
    expect(voidReason(run('0/8FF'), { epoch: 2, slot: 's' }, [twice])).toContain('slot-lost');
    expect(voidReason(run('0/900'), { epoch: 2, slot: 's' }, [twice])).toBeUndefined();
    const another = mergeRequired(twice, { ...base, reason: 'slot-created', sinceLsn: '0/C00' });
    expect(voidReason(run('0/B00'), { epoch: 2, slot: 's' }, [another])).toContain('slot-created');
  });
});
