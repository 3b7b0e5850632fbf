import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Cells } from '../../../src/core/cells.ts';
import type { Cell } from '../../../src/core/contracts.ts';
import { CopyBinaryDecoder } from '../../../src/pipeline/backfill/copy-binary.ts';
import { valuesOf } from '../../support/cells.ts';

const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');

function int(bytes: 2 | 4, value: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  if (bytes === 2) buffer.writeInt16BE(value);
  else buffer.writeInt32BE(value);
  return buffer;
}

function encode(rows: readonly (readonly Cell[])[], extension = Buffer.alloc(0), flags = 0): Buffer {
  const fields = (row: readonly Cell[]): Buffer[] => row.flatMap((cell) => (cell === null ? [int(4, -1)] : [int(4, cell.length), cell]));
  return Buffer.concat([SIGNATURE, int(4, flags), int(4, extension.length), extension, ...rows.flatMap((row) => [int(2, row.length), ...fields(row)]), int(2, -1)]);
}

/** Cuts at the given places, and hands out views of one buffer that is overwritten at once, as node-postgres does. */
function decode(bytes: Buffer, fields: number, cuts: readonly number[]): Cell[][] {
  const rows: Cells[] = [];
  const decoder = new CopyBinaryDecoder(fields, (cells) => rows.push(cells));
  const shared = Buffer.alloc(bytes.length);
  const borders = [0, ...[...cuts].map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  for (let at = 1; at < borders.length; at++) {
    const piece = bytes.subarray(borders[at - 1], borders[at]);
    piece.copy(shared);
    decoder.push(shared.subarray(0, piece.length));
    shared.fill(0xee);
  }
  decoder.finish();
  return rows.map((cells) => valuesOf(cells));
}

const cell = fc.option(fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)), { nil: null });
const table = fc.integer({ min: 1, max: 6 }).chain((fields) => fc.array(fc.array(cell, { minLength: fields, maxLength: fields }), { maxLength: 12 }).map((rows) => ({ fields, rows })));

test('any rows come back, wherever the stream is cut and though its buffers are reused', () => {
  fc.assert(
    fc.property(table, fc.array(fc.nat(), { maxLength: 60 }), fc.uint8Array({ maxLength: 9 }), ({ fields, rows }, cuts, extension) => {
      expect(decode(encode(rows, Buffer.from(extension)), fields, cuts)).toEqual(rows);
    }),
    { numRuns: 500 },
  );
});

test('a stream that comes byte by byte comes back', () => {
  const rows = [[Buffer.from('a'), null], [Buffer.alloc(0), Buffer.from('Zürich')]];
  const bytes = encode(rows);
  expect(decode(bytes, 2, Array.from({ length: bytes.length }, (_, at) => at))).toEqual(rows);
});

test('rows larger than a slab, in many pieces, stay whole while later ones arrive', () => {
  const rows = [1, 2, 3].map((seed) => [Buffer.alloc(2_500_000 + seed, seed), Buffer.from('x')]);
  const bytes = encode(rows);
  const cuts = Array.from({ length: Math.ceil(bytes.length / 60_000) }, (_, at) => at * 60_000);
  const found = decode(bytes, 2, cuts);
  expect(found.length).toBe(3);
  found.forEach((row, at) => expect(row[0]?.equals(rows[at]?.[0] as Buffer)).toBe(true));
});

test('a stream that ends early, has another number of fields, or is no binary COPY is refused', () => {
  const whole = encode([[Buffer.from('a')]]);
  expect(() => decode(whole.subarray(0, whole.length - 1), 1, [])).toThrow('ended before its trailer');
  expect(() => decode(whole, 2, [])).toThrow('1 fields, expected 2');
  expect(() => decode(Buffer.from('a\tb\nthis is COPY in its text format\n'), 1, [])).toThrow('not a binary COPY');
  expect(() => decode(encode([[Buffer.from('a')]], Buffer.alloc(0), 0x0001_0000), 1, [])).toThrow('unknown flags');
});
