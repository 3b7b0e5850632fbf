import { describe, expect, test } from 'vitest';
import type { LoggedTransaction, OldTuple, RowChange } from '../../../src/core/contracts.ts';
import { versionOfCommit } from '../../../src/core/row-version.ts';
import type { Lsn } from '../../../src/core/lsn.ts';
import { recordsOf, type RecordRules } from '../../../src/pipeline/decode/to-records.ts';
import type { WholeChange } from '../../../src/pipeline/decode/whole-rows.ts';
import { tupleOf } from '../../support/cells.ts';
import { CREATED_AT, ID, OTHER_ID, oldKey, relation, TENANT, transaction, tuple, type Values } from './messages.ts';

const RULES: RecordRules = { epoch: 3, deletePolicy: 'apply', isAnnouncedCleanup: () => false };
const OTHER_TENANT = '0d9c1a66-91f5-4f0e-8f0b-5a0f4f6d2b22';

function whole(change: RowChange, in_: LoggedTransaction = transaction(), gone = false): WholeChange {
  if (change.kind === 'delete') return { transaction: in_, change, row: null };
  return { transaction: in_, change, row: gone ? { goneAsOf: 2_000n as Lsn } : { shape: change.relation.shape, cells: change.tuple.whole()! } };
}
const update = (old: OldTuple, values: Values = {}): RowChange => ({ kind: 'update', relation: relation(), old, tuple: tuple(values) });
const remove = (old: OldTuple, identity: 'index' | 'full' | 'default' = 'index'): RowChange => ({ kind: 'delete', relation: relation('workflow_runs', identity), old });

describe('values', () => {
  test('a change carries the commit LSN of its transaction as version, whatever its own LSN was', () => {
    const { records } = recordsOf(whole({ kind: 'insert', relation: relation(), tuple: tuple() }, transaction(0x16_b374_d848n)), RULES);
    expect(records).toMatchObject([{ op: 'insert', version: versionOfCommit(3, 0x16_b374_d848n as Lsn), lsn: 0x16_b374_d848n, key: { id: ID, tenantId: TENANT, createdAt: CREATED_AT } }]);
  });

  test('an update under FULL whose key stayed is one record', () => {
    expect(recordsOf(whole(update({ kind: 'full', cells: tuple() }, { status: 'succeeded' })), RULES).records).toMatchObject([{ op: 'update' }]);
  });

  test('a row that moves within its document leaves a tombstone that deletes nothing', () => {
    const move = update(oldKey(), { createdAt: CREATED_AT.replace(/\d\d:\d\d:/, '00:01:') });
    const { records } = recordsOf(whole(move), RULES);
    expect(records.map(({ op, row }) => [op, row === null])).toEqual([['moved', true], ['update', false]]);
    expect(records[0]!.key).toEqual({ id: ID, tenantId: TENANT, createdAt: CREATED_AT });
    const gone = (deletePolicy: 'apply' | 'ignore') => recordsOf(whole(move, transaction(), true), { ...RULES, deletePolicy });
    // its delete has the new key
    expect(gone('apply')).toMatchObject({ records: [{ op: 'moved' }], waits: { cause: 'row-gone' } });
    expect(gone('ignore')).toMatchObject({ records: [], letters: [{ cause: 'row-gone' }] });
  });

  test.each<[string, Values]>([['tenant', { tenant: OTHER_TENANT }], ['created_at', { createdAt: '2025-11-01 00:00:00' }], ['id', { id: OTHER_ID }]])(
    'a row whose %s changes leaves a tombstone under the old key, and then its value under the new one, in one version', (_, values) => {
      const { records } = recordsOf(whole(update(oldKey(), values)), RULES);
      expect(records.map(({ op, row }) => [op, row === null])).toEqual([['delete', true], ['update', false]]);
      expect(records[0]!.key).toEqual({ id: ID, tenantId: TENANT, createdAt: CREATED_AT });
      expect(records[1]!.version).toBe(records[0]!.version);
    });

  test('it leaves its old place also where deletes are ignored: a move is no delete', () => {
    expect(recordsOf(whole(update(oldKey(), { tenant: OTHER_TENANT })), { ...RULES, deletePolicy: 'ignore' }).records).toHaveLength(2);
  });

  test('a changed id whose old key the log does not hold is parked, and the new row published', () => {
    const old: OldTuple = { kind: 'key', cells: tupleOf([Buffer.from(ID), null, null, null, null]) };
    const { records, letters } = recordsOf(whole(update(old, { id: OTHER_ID })), RULES);
    expect(records).toMatchObject([{ key: { id: OTHER_ID }, op: 'update' }]);
    expect(letters).toMatchObject([{ cause: 'bad-key', key: null }]);
  });

  test.each<[string, Values]>([['an id that is no uuid', { id: 'seven' }], ['no tenant', { tenant: null }], ['an upper-case tenant', { tenant: TENANT.toUpperCase() }], ['no created_at', { createdAt: null }]])(
    'a row with %s is parked: no index may be named after it', (_, values) => {
      const { records, letters } = recordsOf(whole({ kind: 'insert', relation: relation(), tuple: tuple(values) }), RULES);
      expect(records).toEqual([]);
      expect(letters).toMatchObject([{ cause: 'bad-key', table: 'workflow_runs', origin: { stage: 'stream', lsn: '0/3E8' } }]);
      expect(JSON.stringify(letters.map(({ detail }) => detail))).not.toContain('seven');
    });
});

describe('a row that is gone before its hole could be filled', () => {
  test('waits for its delete where deletes are applied, and would be parked by its key', () => {
    const made = recordsOf(whole(update({ kind: 'absent' }), transaction(), true), RULES);
    expect(made).toMatchObject({ records: [], letters: [], waits: { cause: 'row-gone', key: { id: ID } } });
  });

  test('is parked by its key where deletes are ignored', () => {
    const { letters } = recordsOf(whole(update({ kind: 'absent' }), transaction(), true), { ...RULES, deletePolicy: 'ignore' });
    expect(letters).toMatchObject([{ cause: 'row-gone', key: { id: ID, tenantId: TENANT, createdAt: CREATED_AT }, value: null }]);
  });

  test('still leaves a tombstone under its old key when it had moved', () => {
    expect(recordsOf(whole(update(oldKey(), { tenant: OTHER_TENANT }), transaction(), true), RULES).records).toMatchObject([{ op: 'delete', key: { tenantId: TENANT } }]);
  });
});

describe('deletes', () => {
  test('a delete is a tombstone under the key of the old tuple', () => {
    for (const old of [oldKey(), { kind: 'full', cells: tuple() } as const]) {
      expect(recordsOf(whole(remove(old)), RULES).records).toMatchObject([{ op: 'delete', row: null, key: { id: ID, tenantId: TENANT, createdAt: CREATED_AT } }]);
    }
  });

  test('a delete that names only the id is parked, since its index cannot be found', () => {
    const old: OldTuple = { kind: 'key', cells: tupleOf([Buffer.from(ID), null, null, null, null]) };
    expect(recordsOf(whole(remove(old, 'default')), RULES)).toMatchObject({ records: [], letters: [{ cause: 'bad-key', detail: expect.stringContaining('default') }] });
  });

  test('DELETE_POLICY=ignore makes nothing of it', () => {
    expect(recordsOf(whole(remove(oldKey())), { ...RULES, deletePolicy: 'ignore' })).toEqual({ records: [], letters: [], waits: null });
  });

  test('the deletes of an announced clean-up leave the documents alone', () => {
    const cleanup = transaction(1_000, { cleanupRunId: 'run-1' });
    expect(recordsOf(whole(remove(oldKey()), cleanup), { ...RULES, isAnnouncedCleanup: (id) => id === 'run-1' })).toEqual({ records: [], letters: [], waits: null });
  });

  test('a marker that nobody announced suppresses nothing', () => {
    const pretended = transaction(1_000, { cleanupRunId: 'run-2' });
    expect(recordsOf(whole(remove(oldKey()), pretended), { ...RULES, isAnnouncedCleanup: (id) => id === 'run-1' }).records).toHaveLength(1);
  });

  test('an announced clean-up does not hide the other changes of its transaction', () => {
    const cleanup = transaction(1_000, { cleanupRunId: 'run-1' });
    expect(recordsOf(whole(update({ kind: 'absent' }), cleanup), { ...RULES, isAnnouncedCleanup: () => true }).records).toHaveLength(1);
  });
});
