import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RowVersion } from '../../../src/core/row-version.ts';
import { coalesce } from '../../../src/pipeline/sink/coalesce.ts';

interface Rec { readonly index: string; readonly id: string; readonly version: RowVersion; readonly name: string }
const rec = (name: string, version: number | bigint, id = 'x', index = 'i'): Rec => ({ index, id, version: BigInt(version) as RowVersion, name });
const names = (records: readonly Rec[]): string[] => records.map(({ name }) => name);

test('an older backfilled row behind an update does not win, though it is the last', () => {
  const { winners, losers } = coalesce([rec('update @lsn', 100), rec('backfilled @L-1', 99)]);
  expect([names(winners), names(losers)]).toStrictEqual([['update @lsn'], ['backfilled @L-1']]);
});

test('of the changes of one transaction the last wins', () => {
  const { winners, losers } = coalesce([rec('insert', 7), rec('update', 7), rec('delete', 7)]);
  expect([names(winners), names(losers)]).toStrictEqual([['delete'], ['insert', 'update']]);
});

test('two Kafka keys of one document meet: created_at moved inside its month', () => {
  expect(names(coalesce([rec('tombstone of the old key', 7), rec('row under the new key', 7)]).winners)).toStrictEqual(['row under the new key']);
});

test('the same id in two indices is two documents', () => {
  expect(names(coalesce([rec('tombstone in January', 7, 'x', 'jan'), rec('row in February', 7, 'x', 'feb')]).winners)).toStrictEqual(['tombstone in January', 'row in February']);
});

test('versions above 2^53 are told apart', () => {
  expect(names(coalesce([rec('newer', 9007199254740993n), rec('older', 9007199254740992n)]).winners)).toStrictEqual(['newer']);
});

test('winners come grouped by index', () => {
  expect(coalesce([rec('1', 1, 'a', 'jan'), rec('2', 1, 'b', 'feb'), rec('3', 1, 'c', 'jan')]).winners.map(({ index }) => index)).toStrictEqual(['jan', 'jan', 'feb']);
});

test('for any batch: writing the winners alone leaves what writing all records one by one leaves', () => {
  const record = fc.record({ index: fc.constantFrom('i', 'j'), id: fc.constantFrom('a', 'b', 'c'), version: fc.bigInt(0n, 3n), name: fc.uuid() });
  const apply = (records: readonly Rec[]): Map<string, Rec> => {
    const documents = new Map<string, Rec>();
    for (const one of records) {
      const there = documents.get(`${one.index}/${one.id}`);
      if (!there || one.version >= there.version) documents.set(`${one.index}/${one.id}`, one);
    }
    return documents;
  };
  fc.assert(
    fc.property(fc.array(record), (records) => {
      const all = records as Rec[];
      const { winners, losers } = coalesce(all);
      const expected = apply(all);
      expect(winners).toHaveLength(expected.size);
      for (const winner of winners) expect(winner).toBe(expected.get(`${winner.index}/${winner.id}`));
      expect(winners.length + losers.length).toBe(all.length);
    }),
  );
});
