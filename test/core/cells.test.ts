import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Cells, copyBytes, Tuple, UNCHANGED } from '../../src/core/cells.ts';
import type { Cell } from '../../src/core/contracts.ts';
import { cellsOf, tupleOf, type TupleValue, valuesOf } from '../support/cells.ts';

/** Bytes that hurt: none at all, NUL, what is no UTF-8, surrogate pairs, lengths around that from which a call copies. */
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 60 }).map((array) => Buffer.from(array)),
  fc.string({ unit: 'binary' }).map((text) => Buffer.from(text)),
  fc.constantFrom('', '\u0000', 'NULL', '漢字 🙂', '9', 'x'.repeat(48), 'x'.repeat(49), 'x'.repeat(5_000)).map((text) => Buffer.from(text)),
);
const row: fc.Arbitrary<Cell[]> = fc.array(fc.option(bytes, { freq: 3 }), { maxLength: 40 });
const change: fc.Arbitrary<TupleValue[]> = fc.array(fc.oneof(bytes, fc.constant(null), fc.constant(UNCHANGED)), { maxLength: 40 });
const sizeOf = (values: readonly TupleValue[]): number => values.reduce((sum, value) => sum + (Buffer.isBuffer(value) ? value.length : 0), 0);

describe('cells', () => {
  test('come back byte for byte, null as null and nothing as nothing, however they lie in their buffer', () => {
    fc.assert(
      fc.property(row, (values) => {
        for (const cells of [Cells.of(values), cellsOf(values)]) {
          expect(cells.length).toBe(values.length);
          expect(valuesOf(cells)).toEqual(values);
          expect(values.map((_, index) => cells.isNull(index))).toEqual(values.map((value) => value === null));
          expect(values.map((_, index) => (cells.isNull(index) ? null : cells.bytes.subarray(cells.start(index), cells.end(index))))).toEqual(values);
          expect(cells.size).toBe(sizeOf(values));
        }
      }),
    );
  });

  test('are copies where they are made of single values, and views of their buffer where they are asked for', () => {
    const value = Buffer.from('abc');
    const cells = Cells.of([value]);
    value.fill(0);
    expect(String(cells.get(0))).toBe('abc');
    expect(cells.get(0)!.buffer).toBe(cells.bytes.buffer);
  });

  test('without the first ones are the others, and the whole row stays as it is', () => {
    fc.assert(
      fc.property(row.chain((values) => fc.tuple(fc.constant(values), fc.nat(values.length), fc.nat(values.length))), ([values, count, more]) => {
        const all = cellsOf(values);
        const others = all.after(count);
        expect(others.length).toBe(values.length - count);
        expect(valuesOf(others)).toEqual(values.slice(count));
        expect(others.size).toBe(sizeOf(values.slice(count)));
        const fewer = Math.min(more, others.length);
        expect(valuesOf(others.after(fewer))).toEqual(values.slice(count + fewer));
        expect(valuesOf(all)).toEqual(values);
      }),
    );
  });
});

describe('the cells of a change', () => {
  test('come back byte for byte, a hole as a hole, and no hole for a null', () => {
    fc.assert(
      fc.property(change, (values) => {
        const tuple = tupleOf(values);
        expect(valuesOf(tuple)).toEqual(values);
        expect(values.map((_, index) => tuple.isNull(index))).toEqual(values.map((value) => value === null));
        expect(values.map((_, index) => tuple.isHole(index))).toEqual(values.map((value) => value === UNCHANGED));
        expect(tuple.holes).toBe(values.filter((value) => value === UNCHANGED).length);
        expect(tuple.size).toBe(sizeOf(values));
      }),
    );
  });

  test('are a row only where none is a hole', () => {
    fc.assert(
      fc.property(change, (values) => {
        const cells = tupleOf(values).whole();
        expect(cells && valuesOf(cells)).toEqual(values.includes(UNCHANGED) ? undefined : values);
      }),
    );
  });
});

test('the text of a cell is one character for each byte, and there is none of a null, a hole, or a place outside of the row', () => {
  fc.assert(
    fc.property(change, fc.nat(40), (values, before) => {
      const latin = (value: TupleValue | undefined): string | undefined => (Buffer.isBuffer(value) ? value.toString('latin1') : undefined);
      // Neighbours in the room, whose cells nobody may find here.
      tupleOf([Buffer.from('neighbour')]);
      const tuple = tupleOf(values);
      tupleOf([Buffer.from('neighbour')]);
      for (let index = -2; index < values.length + 2; index++) expect(tuple.ascii(index)).toBe(latin(values[index]));
      const cells = tuple.whole();
      if (!cells) return;
      const count = Math.min(before, values.length);
      for (let index = -2; index < values.length + 2; index++) expect(cells.after(count).ascii(index)).toBe(latin(index < 0 ? undefined : values[count + index]));
    }),
  );
});

describe('places', () => {
  /** A room has 16,384 numbers, two for each cell. */
  const ROOM_CELLS = 8_192;
  const filled = (cells: Cells | Tuple, mark: number): void => {
    for (let index = 0; index < cells.length; index++) cells.put(index, mark, mark + index);
  };
  /** The first cell whose place is not what `filled` gave it. */
  const foreign = (cells: Cells | Tuple, mark: number): number | undefined => Array.from({ length: cells.length }, (_, index) => index).find((index) => cells.start(index) !== mark || cells.end(index) !== mark + index);

  test('are never handed out twice, whoever asks for how many in which order', () => {
    const length = fc.oneof({ weight: 20, arbitrary: fc.nat(60) }, { weight: 2, arbitrary: fc.integer({ min: 1_000, max: 5_000 }) }, { weight: 1, arbitrary: fc.constantFrom(ROOM_CELLS - 1, ROOM_CELLS, ROOM_CELLS + 1, 20_000) });
    fc.assert(
      fc.property(fc.array(fc.tuple(length, fc.boolean()), { maxLength: 60, size: 'max' }), (asked) => {
        // All have their room before the first writes, and all have written before the first is looked at.
        const rows = asked.map(([count, ofChange]) => (ofChange ? Tuple : Cells).room(Buffer.alloc(0), count));
        for (const [mark, cells] of rows.entries()) filled(cells, mark);
        for (const [mark, cells] of rows.entries()) expect(foreign(cells, mark)).toBeUndefined();
      }),
      { numRuns: 50 },
    );
  });

  test.each([ROOM_CELLS - 1, ROOM_CELLS, ROOM_CELLS + 1, 3 * ROOM_CELLS])('a row of %i cells has all of them, and so have the rows before and behind it', (count) => {
    const values = Array.from({ length: count }, (_, index) => (index % 7 === 0 ? null : Buffer.from(String(index))));
    const small = [Buffer.from('a'), null, Buffer.from('b')];
    const [before, large, behind] = [cellsOf(small), Cells.of(values), cellsOf(small)];
    expect(valuesOf(large).map((cell) => cell && String(cell))).toEqual(values.map((cell) => cell && String(cell)));
    expect(large.size).toBe(sizeOf(values));
    expect([valuesOf(before), valuesOf(behind)]).toEqual([small, small]);
  });
});

test('bytes are copied to where they belong and nowhere else', () => {
  fc.assert(
    fc.property(bytes, bytes, fc.nat(9), fc.nat(9), (source, around, at, rest) => {
      const from = Buffer.concat([around, source, around]);
      const target = Buffer.alloc(at + source.length + rest, 0xee);
      expect(copyBytes(target, at, from, around.length, around.length + source.length)).toBe(at + source.length);
      expect(target.equals(Buffer.concat([Buffer.alloc(at, 0xee), source, Buffer.alloc(rest, 0xee)]))).toBe(true);
    }),
  );
});

test('a row that is kept has the same cells, in places that no other row shares', () => {
  const cells = cellsOf([Buffer.from('a'), null, Buffer.from('')]);
  const kept = cells.toKeep();
  expect(valuesOf(kept)).toStrictEqual(valuesOf(cells));
  cells.put(0, 0, 0);
  expect(kept.get(0)?.toString()).toBe('a');
  expect(() => kept.get(-1)).toThrow(RangeError);
  expect(() => kept.get(3)).toThrow(RangeError);
});
