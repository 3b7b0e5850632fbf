import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OffsetLedger } from '../../../src/pipeline/sink/committable-offset.ts';

/** A timeline: which position is settled, and what may be committed after it. */
function timeline(offsets: readonly string[], lastOffset: string, settled: readonly number[]): (string | undefined)[] {
  const ledger = new OffsetLedger(offsets, lastOffset);
  return [ledger.committable(), ...settled.map((position) => (ledger.settle(position), ledger.committable()))];
}

describe('what Kafka may forget', () => {
  test('grows with each record that is settled in order', () => expect(timeline(['10', '11', '12'], '12', [0, 1, 2])).toStrictEqual([undefined, '11', '12', '13']));

  test('stands still at a record that waits, however many behind it are settled', () => {
    expect(timeline(['10', '11', '12', '13'], '13', [1, 2, 3, 0])).toStrictEqual([undefined, undefined, undefined, undefined, '14']);
    expect(timeline(['10', '11', '12', '13'], '13', [0, 3, 2, 1])).toStrictEqual([undefined, '11', '11', '11', '14']);
  });

  test('is the next record to be read where compaction has left gaps', () => expect(timeline(['10', '25', '70'], '70', [0, 1, 2])).toStrictEqual([undefined, '25', '70', '71']));

  test('goes past control markers only when all before them is settled', () => expect(timeline(['10', '11'], '14', [0, 1])).toStrictEqual([undefined, '11', '15']));

  test('goes past a batch of control markers alone at once', () => expect(timeline([], '14', [])).toStrictEqual(['15']));

  test('keeps offsets above 2^53 apart', () => expect(timeline(['9007199254740993', '9007199254740995'], '9007199254740995', [0, 1])).toStrictEqual([undefined, '9007199254740995', '9007199254740996']));

  test('is never decided on a record that is settled twice or is not there', () => {
    const ledger = new OffsetLedger(['1', '2'], '2');
    ledger.settle(0);
    for (const position of [0, 2, -1]) expect(() => ledger.settle(position)).toThrow(RangeError);
  });

  test('is never decided on a batch that is out of order', () => {
    expect(() => new OffsetLedger(['2', '1'], '2')).toThrow(RangeError);
    expect(() => new OffsetLedger(['1', '1'], '2')).toThrow(RangeError);
    expect(() => new OffsetLedger(['1', '3'], '2')).toThrow(RangeError);
  });
});

test('in any order of settling, no record that is committed away was unsettled, and at the end all is committed', () => {
  const batch = fc.uniqueArray(fc.nat(1_000), { minLength: 1, maxLength: 20 }).map((offsets) => offsets.sort((a, b) => a - b));
  fc.assert(
    fc.property(batch.chain((offsets) => fc.tuple(fc.constant(offsets), fc.shuffledSubarray(offsets.map((_, at) => at), { minLength: offsets.length }), fc.nat(5))), ([offsets, order, markers]) => {
      const last = offsets.at(-1)! + markers;
      const ledger = new OffsetLedger(offsets.map(String), String(last));
      const settled = new Set<number>();
      let before = -1;
      for (const position of order) {
        ledger.settle(position);
        settled.add(position);
        const committable = Number(ledger.committable() ?? offsets[0]);
        expect(committable).toBeGreaterThanOrEqual(before);
        for (const [at, offset] of offsets.entries()) if (offset < committable) expect(settled).toContain(at);
        expect(ledger.complete).toBe(settled.size === offsets.length);
        before = committable;
      }
      expect(before).toBe(last + 1);
    }),
  );
});
