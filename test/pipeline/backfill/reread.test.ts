import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RowRecord } from '../../../src/core/contracts.ts';
import type { Lsn } from '../../../src/core/lsn.ts';
import { versionOfBackfill } from '../../../src/core/row-version.ts';
import { PLACE_BYTES, type ReadRow } from '../../../src/pipeline/backfill/chunk.ts';
import { vanished } from '../../../src/pipeline/backfill/places.ts';
import { judge, type Known } from '../../../src/pipeline/backfill/reread.ts';
import { cellsOf } from '../../support/cells.ts';

const L = 1000n as Lsn;
const KEY = { tenantId: 'a', createdAt: '2026-08-01 00:00:00', id: 'i' };
const MOVED = { ...KEY, createdAt: '2026-07-01 00:00:00' };

function row(xmin: number, key = KEY): ReadRow {
  const record: RowRecord = { table: 'workflow_runs', key, version: versionOfBackfill(1, L), op: 'read', lsn: 999n as Lsn, timeMs: 0, row: { shape: { table: 'workflow_runs', columns: ['id'] }, cells: cellsOf([Buffer.from('i')]) } };
  return { record, xmin };
}
const known = (last: ReadRow | null): Known => ({ id: 'i', row: last });
const made = (records: readonly RowRecord[]): [string, string][] => records.map((record) => [record.row === null ? 'tombstone' : 'value', record.key.createdAt.slice(0, 7)]);

describe('the verdict on one row', () => {
  test('the same version under the same key is settled', () => {
    expect(judge(known(row(5)), row(5), 'apply')).toEqual({ records: [], next: undefined });
  });

  test('another version is produced again and looked at again', () => {
    const now = row(6);
    const verdict = judge(known(row(5)), now, 'apply');
    expect([made(verdict.records), verdict.next]).toEqual([[['value', '2026-08']], { id: 'i', row: now }]);
  });

  test('a row under another key leaves a tombstone under the old one, before its value, under either policy', () => {
    for (const policy of ['apply', 'ignore'] as const) {
      expect(made(judge(known(row(5)), row(6, MOVED), policy).records)).toEqual([['tombstone', '2026-08'], ['value', '2026-07']]);
    }
  });

  test('that tombstone deletes nothing where both keys are of one document', () => {
    const within = { ...KEY, createdAt: '2026-08-01 08:00:00' };
    const ops = (key: typeof KEY): string[] => judge(known(row(5)), row(6, key), 'apply').records.map(({ op }) => op);
    expect([ops(within), ops(MOVED)]).toEqual([['moved', 'read'], ['delete', 'read']]);
  });

  test('a row that is gone gets a tombstone under its last key and stays in the loop', () => {
    const verdict = judge(known(row(6, MOVED)), undefined, 'apply');
    expect([made(verdict.records), verdict.next]).toEqual([[['tombstone', '2026-07']], { id: 'i', row: null }]);
    expect(judge(verdict.next as Known, undefined, 'apply')).toEqual({ records: [], next: undefined });
  });

  test('a row that came back after its tombstone is produced, even as the version that was seen before', () => {
    expect(made(judge(known(null), row(5), 'apply').records)).toEqual([['value', '2026-08']]);
  });

  test('a row that is gone stays in the log where deletes are ignored', () => {
    expect(judge(known(row(5)), undefined, 'ignore')).toEqual({ records: [], next: undefined });
  });

  test('tombstones carry version, LSN and operation like a delete below every streamed change', () => {
    const [record] = judge(known(row(5)), undefined, 'apply').records;
    expect(record).toMatchObject({ op: 'delete', row: null, version: versionOfBackfill(1, L), lsn: 999n });
  });
});

describe('rows that are no longer in their place', () => {
  const place = fc.record({ block: fc.integer({ min: 0, max: 3 }), offset: fc.integer({ min: 1, max: 3 }), xmin: fc.integer({ min: 3, max: 5 }) });
  const bytes = (places: readonly { block: number; offset: number; xmin: number }[]): Buffer =>
    Buffer.concat(places.map(({ block, offset, xmin }) => {
      const one = Buffer.alloc(PLACE_BYTES);
      one.writeUInt32BE(block, 0);
      one.writeUInt16BE(offset, 4);
      one.writeUInt32BE(xmin, 6);
      return one;
    }));

  test('are found by place and version in whatever order the server sends them', () => {
    fc.assert(
      fc.property(fc.uniqueArray(place, { selector: ({ block, offset }) => block * 10 + offset }), fc.uniqueArray(place, { selector: ({ block, offset }) => block * 10 + offset }), (before, now) => {
        const same = (a: (typeof before)[number], b: (typeof before)[number]): boolean => a.block === b.block && a.offset === b.offset && a.xmin === b.xmin;
        const expected = before.flatMap((one, index) => (now.some((other) => same(one, other)) ? [] : [index]));
        expect(vanished(bytes(before), bytes(now))).toEqual(expected);
      }),
    );
  });
});
