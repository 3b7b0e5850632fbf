import fc from 'fast-check';
import { expect, test } from 'vitest';
import { expectedIndex } from './contract.ts';
import { inBatches, mergeEnds, type Meeting } from './merge.ts';
import type { RowPosition } from './postgres.ts';

const TENANT = '00000000-0000-4000-8000-000000000001';
const TIME = '2026-08-15 00:00:00';
const HOME = expectedIndex('p', 'workflow_runs', TENANT, TIME) ?? '';
const row = (id: string, createdAt = TIME, bytes = 1): RowPosition => ({ id, tenantId: TENANT, createdAt, bytes });

async function* each<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}

async function merge(rows: RowPosition[], documents: { id: string; index: string }[]): Promise<string[]> {
  const seen: string[] = [];
  for await (const meeting of mergeEnds('p', 'workflow_runs', each(rows), each(documents))) seen.push(`${meeting.kind} ${'row' in meeting ? meeting.row.id : meeting.id}`);
  return seen;
}

test('a row is a pair, missing, or in a wrong index; a document without a row is extra', async () => {
  const documents = [{ id: '0', index: HOME }, { id: 'a', index: HOME }, { id: 'c', index: 'elsewhere' }, { id: 'd', index: 'elsewhere' }, { id: 'd', index: HOME }, { id: 'z', index: HOME }];
  expect(await merge([row('a'), row('b'), row('c'), row('d')], documents)).toEqual(['extra 0', 'pair a', 'missing b', 'wrong-index c', 'missing c', 'wrong-index d', 'pair d', 'extra z']);
});

test('a row without a month has no index, and a document of it is in a wrong one', async () => {
  expect(await merge([row('a', 'infinity')], [{ id: 'a', index: HOME }])).toEqual(['wrong-index a', 'no-month a']);
});

test('the merge finds exactly what a comparison of two sets finds', async () => {
  const ids = fc.uniqueArray(fc.constantFrom(...'abcdefghijklmnop'), { maxLength: 16 }).map((list) => list.sort());
  await fc.assert(fc.asyncProperty(ids, ids, async (left, right) => {
    const expected = [...new Set([...left, ...right])].sort().map((id) => (!left.includes(id) ? `extra ${id}` : right.includes(id) ? `pair ${id}` : `missing ${id}`));
    expect(await merge(left.map((id) => row(id)), right.map((id) => ({ id, index: HOME })))).toEqual(expected);
  }));
});

test('batches end at a number or at a size, whichever comes first, and lose nothing', async () => {
  const pair = (id: string, bytes: number): Meeting => ({ kind: 'pair', row: row(id, TIME, bytes), index: HOME });
  const others: string[] = [];
  const batches: string[] = [];
  const meetings = [pair('a', 1), pair('b', 1), { kind: 'extra', id: 'x', index: HOME } as const, pair('c', 1), pair('d', 50), pair('e', 1)];
  for await (const batch of inBatches(each(meetings), { count: 3, bytes: 10 }, (meeting) => others.push(meeting.kind))) batches.push(batch.map((one) => one.row.id).join(''));
  expect({ batches, others }).toEqual({ batches: ['abc', 'd', 'e'], others: ['extra'] });
});
