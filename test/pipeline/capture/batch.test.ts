import { expect, test } from 'vitest';
import { CLEANUP_MARKER, type WalMessage } from '../../../src/core/contracts.ts';
import type { Lsn } from '../../../src/core/lsn.ts';
import { Batcher, relationsOf, transactionsOf } from '../../../src/pipeline/capture/batch.ts';
import { tupleOf } from '../../support/cells.ts';

const LIMITS = { maxChanges: 3, maxBytes: 1_000 };
const relation = { oid: 1, shape: { table: 'workflow_runs', columns: ['id'] }, replicaIdentity: 'index' } as const;
const begin = (xid: number, commitLsn = xid): WalMessage => ({ kind: 'begin', xid, commitLsn: BigInt(commitLsn) as Lsn, commitTimeMs: xid });
const commit = (endLsn: number): WalMessage => ({ kind: 'commit', commitLsn: 0n as Lsn, endLsn: BigInt(endLsn) as Lsn, commitTimeMs: endLsn });
const insert: WalMessage = { kind: 'insert', relation, tuple: tupleOf([Buffer.from('a')]) };
const marker = (content: string, more: { prefix?: string; transactional?: boolean } = {}): WalMessage =>
  ({ kind: 'logical-message', transactional: more.transactional ?? true, prefix: more.prefix ?? CLEANUP_MARKER, content: Buffer.from(content) });

function batcherWith(...messages: WalMessage[]): Batcher {
  const batcher = new Batcher(LIMITS);
  for (const message of messages) batcher.add(message, 10);
  return batcher;
}

test('changes carry their transaction, and the batch the end of the last commit', () => {
  const batch = batcherWith(begin(7), insert, commit(20), begin(8), insert, commit(30)).take();
  expect(batch.changes.map(({ transaction }) => transaction.xid)).toEqual([7, 8]);
  expect(batch).toMatchObject({ commits: 2, rowChanges: 2, lastCommit: { endLsn: 30n, commitTimeMs: 30 } });
  expect(transactionsOf(batch).map(({ xid }) => xid)).toEqual([7, 8]);
});

test('a transaction without changes is a batch of its own worth: its commit is to be confirmed', () => {
  const batcher = batcherWith(begin(7), commit(20));
  expect(batcher.isEmpty).toBe(false);
  expect(batcher.take()).toMatchObject({ rowChanges: 0, lastCommit: { endLsn: 20n } });
});

test('a large transaction comes in several batches, all with its commit LSN and none with an end before the last', () => {
  const batcher = batcherWith(begin(7, 99), insert, insert, insert);
  expect([batcher.isFull, batcher.atBoundary]).toEqual([true, false]);
  const first = batcher.take();
  expect(batcher.isEmpty).toBe(true);
  batcher.add(insert, 10);
  batcher.add(commit(120), 10);
  const second = batcher.take();
  expect([first.lastCommit, second.lastCommit?.endLsn]).toEqual([null, 120n]);
  expect(second.changes[0]!.transaction).toBe(first.changes[0]!.transaction);
});

test('a batch is full by its bytes too', () => {
  const batcher = new Batcher(LIMITS);
  batcher.add(begin(7), 10);
  batcher.add(insert, 1_000);
  expect(batcher.isFull).toBe(true);
});

test('a truncate ends its batch: what comes after it waits', () => {
  const batcher = batcherWith(begin(7), insert, { kind: 'truncate', relations: [relation] });
  expect(batcher.isFull).toBe(true);
  expect(batcher.take().changes.map(({ message }) => message.kind)).toEqual(['insert', 'truncate']);
  batcher.add(insert, 10);
  expect(batcher.isFull).toBe(false);
});

test('the marker of a clean-up counts only as the first thing of its transaction', () => {
  const runOf = (...messages: WalMessage[]): (string | null)[] => transactionsOf(batcherWith(...messages).take()).map(({ cleanupRunId }) => cleanupRunId);
  expect(runOf(begin(7), marker('run-1'), insert, commit(9))).toEqual(['run-1']);
  expect(runOf(begin(7), marker('x', { prefix: 'somebody' }), { kind: 'relation', relation }, marker('run-1'), insert, commit(9))).toEqual(['run-1']);
  expect(runOf(begin(7), insert, marker('run-1'), commit(9))).toEqual([null]);
  expect(runOf(begin(7), marker('run-1'), marker('run-2'), insert, commit(9))).toEqual(['run-1']);
  expect(runOf(begin(7), marker('run-1', { transactional: false }), insert, commit(9))).toEqual([null]);
});

test('a marker does not reach into the next transaction', () => {
  const batch = batcherWith(begin(7), marker('run-1'), insert, commit(9), begin(8), insert, commit(19)).take();
  expect(transactionsOf(batch).map(({ cleanupRunId }) => cleanupRunId)).toEqual(['run-1', null]);
});

test('a marker outside of any transaction marks nothing', () => {
  const batch = batcherWith(marker('run-1', { transactional: false }), begin(8), insert, commit(19)).take();
  expect(transactionsOf(batch).map(({ cleanupRunId }) => cleanupRunId)).toEqual([null]);
});

test('announcements are listed with the transaction that brought them', () => {
  const batch = batcherWith(begin(7, 77), { kind: 'relation', relation }, insert, commit(9)).take();
  expect(relationsOf(batch)).toEqual([{ relation, commitLsn: 77n }]);
});

test('a change outside of a transaction stops the reader', () => {
  expect(() => batcherWith(insert)).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
});
