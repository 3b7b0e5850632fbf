import avsc from 'avsc';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Cell } from '../../../src/core/contracts.ts';
import { createRowEncoder, decodeRow, encodeRow, fingerprintOf, sizeOfRow } from '../../../src/pipeline/encode/row-codec.ts';
import { schemaOf } from '../../../src/pipeline/encode/row-schema.ts';

const shape = (count: number) => ({ table: 'workflow_runs' as const, columns: Array.from({ length: count }, (_, index) => `c${index}`) });

/** Text that hurts: NUL, quotes, line breaks, surrogate pairs, the lengths around each varint boundary. */
const hostile = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', '\u0000', '"\\\n\r\t', '漢字 🙂', '\u2028', '{"a":NaN}', 'NULL', '\\N'),
  fc.constantFrom(63, 64, 8191, 8192).map((length) => 'x'.repeat(length)),
);
const row = fc.array(fc.option(hostile), { minLength: 1, maxLength: 30 });
const cellsOf = (texts: readonly (string | null)[]): Cell[] => texts.map((text) => (text === null ? null : Buffer.from(text)));

describe('row codec', () => {
  it('writes the bytes that avsc writes, whatever the text', () => {
    fc.assert(
      fc.property(row, (texts) => {
        const schema = schemaOf(shape(texts.length));
        const type = avsc.Type.forSchema(schema.avro as unknown as avsc.Schema, { wrapUnions: false });
        const object = Object.fromEntries(texts.map((text, index) => [`c${index}`, text]));
        const ours = encodeRow(cellsOf(texts), schema.fingerprint);
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
        expect(cells.map((cell) => cell?.toString() ?? null)).toEqual(cellsOf(texts).map((cell) => cell?.toString() ?? null));
        for (const cell of cells) if (cell) expect(cell.buffer).toBe(value.buffer);
        expect(fingerprintOf(value)).toBe(schema.hex);
      }),
    );
  });

  it('keeps bytes that are no UTF-8', () => {
    const { fingerprint } = schemaOf(shape(1));
    const cell = Buffer.from([0xff, 0x00, 0xc3, 0x28]);
    expect(decodeRow(encodeRow([cell], fingerprint), 1)).toEqual([cell]);
  });

  it('carries a cell of 20 MiB', () => {
    const { fingerprint } = schemaOf(shape(2));
    const cell = Buffer.alloc(20 * 1024 * 1024, 0x61);
    const value = encodeRow([null, cell], fingerprint);
    expect(value.length).toBe(sizeOfRow([null, cell]));
    expect(decodeRow(value, 2)[1]?.equals(cell)).toBe(true);
  });

  it('leaves earlier rows of a batch untouched while later ones are written', () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.option(hostile), { minLength: 3, maxLength: 3 }), { maxLength: 40 }), (rows) => {
        const { fingerprint } = schemaOf(shape(3));
        const encode = createRowEncoder(1024);
        const values = rows.map((texts) => encode(cellsOf(texts), fingerprint));
        values.forEach((value, index) => expect(value.equals(encodeRow(cellsOf(rows[index]!), fingerprint))).toBe(true));
      }),
    );
  });

  it('refuses every cut and every surplus byte of a row', () => {
    const { fingerprint } = schemaOf(shape(3));
    const value = encodeRow(cellsOf(['abc', null, 'x'.repeat(100)]), fingerprint);
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
