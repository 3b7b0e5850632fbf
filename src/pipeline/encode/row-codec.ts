import { Cells, copyBytes } from '../../core/cells.ts';
import { AvroReader, sizeOfLength, writeLength } from './avro-bytes.ts';

/*
 * A row's value in Kafka, Avro's single-object encoding:
 *
 *   C3 01 | fingerprint, 8 bytes little-endian | for each column: 00 (null), or 02 length bytes
 *
 * Written by hand because avsc takes objects: building one costs more than the whole encoding here. avsc stays the
 * authority: the tests prove these bytes equal to its own for any text.
 */

const MARKER_0 = 0xc3;
const MARKER_1 = 0x01;
const HEADER = 10;
const NULL_BRANCH = 0;
const STRING_BRANCH = 2; // 1, zigzag

/** Bytes of the encoded row, exactly. */
export function sizeOfRow(cells: Cells): number {
  let size = HEADER + cells.length;
  for (let index = 0; index < cells.length; index++) {
    if (cells.isNull(index)) continue;
    const length = cells.end(index) - cells.start(index);
    size += sizeOfLength(length) + length;
  }
  return size;
}

/**
 * Writes a row into `target`, which must have room for `sizeOfRow` bytes from `offset`; returns the offset behind it.
 */
function writeRow(target: Buffer, offset: number, cells: Cells, fingerprint: Buffer): number {
  target[offset] = MARKER_0;
  target[offset + 1] = MARKER_1;
  let at = copyBytes(target, offset + 2, fingerprint, 0, fingerprint.length);
  for (let index = 0; index < cells.length; index++) {
    if (cells.isNull(index)) {
      target[at++] = NULL_BRANCH;
      continue;
    }
    const start = cells.start(index);
    const end = cells.end(index);
    target[at++] = STRING_BRANCH;
    at = copyBytes(target, writeLength(target, at, end - start), cells.bytes, start, end);
  }
  return at;
}

/** One encoded row in a buffer of its own. `fingerprint`: the 8 bytes of the row's schema. */
export function encodeRow(cells: Cells, fingerprint: Buffer): Buffer {
  const target = Buffer.allocUnsafeSlow(sizeOfRow(cells));
  writeRow(target, 0, cells, fingerprint);
  return target;
}

/** A row on its way into a batch of records: written straight into it, without a buffer of its own in between. */
export class RowValue {
  readonly length: number;
  readonly #cells: Cells;
  readonly #fingerprint: Buffer;

  constructor(cells: Cells, fingerprint: Buffer) {
    this.length = sizeOfRow(cells);
    this.#cells = cells;
    this.#fingerprint = fingerprint;
  }

  /** Writes `length` bytes at `offset` and returns the offset behind them. */
  writeTo(target: Buffer, offset: number): number {
    return writeRow(target, offset, this.#cells, this.#fingerprint);
  }
}

/** The fingerprint of the value's schema as hex (the key on the control topic). Throws a RangeError on other bytes. */
export function fingerprintOf(value: Buffer): string {
  if (value.length < HEADER || value[0] !== MARKER_0 || value[1] !== MARKER_1) throw new RangeError('Avro: not a single-object encoding');
  return value.toString('hex', 2, HEADER);
}

/**
 * The cells of a value whose schema has that many columns. They lie in `value`, so they live and die with its buffer.
 * Throws a RangeError when the bytes are not exactly such a row; the row then goes to the dead letters as undecodable.
 */
export function decodeRow(value: Buffer, columnsCount: number): Cells {
  const reader = new AvroReader(value, HEADER);
  const cells = Cells.room(value, columnsCount);
  for (let index = 0; index < columnsCount; index++) {
    const branch = reader.length();
    if (branch > 1) throw new RangeError('Avro: no such branch');
    if (branch === 0) cells.putNull(index);
    else cells.put(index, reader.skip(reader.length()), reader.offset);
  }
  reader.end();
  return cells;
}
