import avsc from 'avsc';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Cells } from '../../../src/core/cells.ts';
import { decodeRow, encodeRow, fingerprintOf, RowValue, sizeOfRow } from '../../../src/pipeline/encode/row-codec.ts';
import { schemaOf } from '../../../src/pipeline/encode/row-schema.ts';
import { cellsOf, valuesOf } from '../../support/cells.ts';

const shape = (count: number) => ({ table: 'workflow_runs' as const, columns: Array.from({ length: count }, (_, index) => `c${index}`) });

/** Text that hurts: NUL, quotes, line breaks, surrogate pairs, the lengths around each varint boundary. */
const hostile = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', '\u0000', '"\\\n\r\t', '漢字 🙂', '\u2028', '{"a":NaN}', 'NULL', '\\N'),
  fc.constantFrom(63, 64, 8191, 8192).map((length) => 'x'.repeat(length)),
);
const row = fc.array(fc.option(hostile), { minLength: 1, maxLength: 30 });
const cellsOfTexts = (texts: readonly (string | null)[]): Cells => cellsOf(texts.map((text) => (text === null ? null : Buffer.from(text))));

describe('row codec', () => {
  it('writes the bytes that avsc writes, whatever the text', () => {
    fc.assert(
      fc.property(row, (texts) => {
        const schema = schemaOf(shape(texts.length));
        const type = avsc.Type.forSchema(schema.avro as unknown as avsc.Schema, { wrapUnions: false });
        const object = Object.fromEntries(texts.map((text, index) => [`c${index}`, text]));
        const ours = encodeRow(cellsOfTexts(texts), schema.fingerprint);
        expect(ours.subarray(10).equals(type.toBuffer(object))).toBe(true);
        expect(ours.subarray(0, 2).toString('hex')).toBe('c301');
      }),
    );
  });

  it('reads what avsc wrote, and gives back views instead of copies', () => {
    fc.assert(
      fc.property(row, (texts) => {
        const schema = schemaOf(shape(texts.length));
        const type = avsc.Type.forSchema(schema.avro as unknown as avsc.Schema, { wrapUnions: false });
        const body = type.toBuffer(Object.fromEntries(texts.map((text, index) => [`c${index}`, text])));
        const value = Buffer.concat([Buffer.from('c301', 'hex'), schema.fingerprint, body]);
        const cells = decodeRow(value, texts.length);
        expect(valuesOf(cells).map((cell) => cell?.toString() ?? null)).toEqual(texts.map((text) => (text === null ? null : Buffer.from(text).toString())));
        for (const cell of valuesOf(cells)) if (cell) expect(cell.buffer).toBe(value.buffer);
        expect(fingerprintOf(value)).toBe(schema.hex);
      }),
    );
  });

  it('keeps bytes that are no UTF-8', () => {
    const { fingerprint } = schemaOf(shape(1));
    const cell = Buffer.from([0xff, 0x00, 0xc3, 0x28]);
    expect(valuesOf(decodeRow(encodeRow(cellsOf([cell]), fingerprint), 1))).toEqual([cell]);
  });

  it('carries a cell of 20 MiB', () => {
    const { fingerprint } = schemaOf(shape(2));
    const cell = Buffer.alloc(20 * 1024 * 1024, 0x61);
    const cells = cellsOf([null, cell]);
    const value = encodeRow(cells, fingerprint);
    expect(value.length).toBe(sizeOfRow(cells));
    expect(decodeRow(value, 2).get(1)?.equals(cell)).toBe(true);
  });

  it('writes the rows of a batch one behind the other, each as if it were alone', () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.option(hostile), { minLength: 3, maxLength: 3 }), { maxLength: 40 }), (rows) => {
        const { fingerprint } = schemaOf(shape(3));
        const values = rows.map((texts) => new RowValue(cellsOfTexts(texts), fingerprint));
        const target = Buffer.alloc(values.reduce((sum, { length }) => sum + length, 0));
        const ends: number[] = [];
        for (const value of values) ends.push(value.writeTo(target, ends.at(-1) ?? 0));
        expect(ends.at(-1) ?? 0).toBe(target.length);
        rows.forEach((texts, index) => {
          const alone = encodeRow(cellsOfTexts(texts), fingerprint);
          expect(values[index]!.length).toBe(alone.length);
          expect(target.subarray(ends[index - 1] ?? 0, ends[index]).equals(alone)).toBe(true);
        });
      }),
    );
  });

  it('refuses every cut and every surplus byte of a row', () => {
    const { fingerprint } = schemaOf(shape(3));
    const value = encodeRow(cellsOfTexts(['abc', null, 'x'.repeat(100)]), fingerprint);
    for (let end = 10; end < value.length; end++) expect(() => decodeRow(value.subarray(0, end), 3)).toThrow(RangeError);
    expect(() => decodeRow(Buffer.concat([value, Buffer.from([0])]), 3)).toThrow(RangeError);
  });

  it('never reads beyond foreign bytes: it answers or throws a RangeError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(20), (bytes, columns) => {
        try {
          expect(decodeRow(Buffer.from(bytes), columns)).toHaveLength(columns);
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
    );
  });

  it('tells other bytes from a row by the marker', () => {
    expect(() => fingerprintOf(Buffer.from('c3'))).toThrow(RangeError);
    expect(() => fingerprintOf(Buffer.from('{"id":"some text"}'))).toThrow(RangeError);
  });
});
