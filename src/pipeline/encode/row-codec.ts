import type { Cell } from '../../core/contracts.ts';
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
export function sizeOfRow(cells: readonly Cell[]): number {
  let size = HEADER + cells.length;
  for (const cell of cells) if (cell !== null) size += sizeOfLength(cell.length) + cell.length;
  return size;
}

/**
 * Writes a row into `target`, which must have room for `sizeOfRow` bytes from `offset`; returns the offset behind it.
 */
export function writeRow(target: Buffer, offset: number, cells: readonly Cell[], fingerprint: Buffer): number {
  target[offset] = MARKER_0;
  target[offset + 1] = MARKER_1;
  target.set(fingerprint, offset + 2);
  let at = offset + HEADER;
  for (const cell of cells) {
    if (cell === null) {
      target[at++] = NULL_BRANCH;
      continue;
    }
    target[at++] = STRING_BRANCH;
    at = writeLength(target, at, cell.length);
    target.set(cell, at);
    at += cell.length;
  }
  return at;
}

/** One encoded row in a buffer of its own. `fingerprint`: the 8 bytes of the row's schema. */
export function encodeRow(cells: readonly Cell[], fingerprint: Buffer): Buffer {
  const target = Buffer.allocUnsafeSlow(sizeOfRow(cells));
  writeRow(target, 0, cells, fingerprint);
  return target;
}

/**
 * Encodes many rows into few large buffers and hands out views: one allocation for a batch instead of one for a row.
 * The views stay valid: a full buffer is left to them and a new one begun, nothing is ever overwritten.
 */
export function createRowEncoder(blockBytes = 1 << 20): (cells: readonly Cell[], fingerprint: Buffer) => Buffer {
  let block = Buffer.alloc(0);
  let used = 0;
  return (cells, fingerprint) => {
    const size = sizeOfRow(cells);
    if (used + size > block.length) {
      block = Buffer.allocUnsafeSlow(Math.max(blockBytes, size));
      used = 0;
    }
    const start = used;
    used = writeRow(block, start, cells, fingerprint);
    return block.subarray(start, used);
  };
}

/** The fingerprint of the value's schema as hex (the key on the control topic). Throws a RangeError on other bytes. */
export function fingerprintOf(value: Buffer): string {
  if (value.length < HEADER || value[0] !== MARKER_0 || value[1] !== MARKER_1) throw new RangeError('Avro: not a single-object encoding');
  return value.toString('hex', 2, HEADER);
}

/**
 * The cells of a value whose schema has that many columns: views of `value`, so they live and die with its buffer.
 * Throws a RangeError when the bytes are not exactly such a row; the row then goes to the dead letters as undecodable.
 */
export function decodeRow(value: Buffer, columnsCount: number): Cell[] {
  const reader = new AvroReader(value, HEADER);
  const cells = new Array<Cell>(columnsCount);
  for (let index = 0; index < columnsCount; index++) {
    const branch = reader.length();
    if (branch > 1) throw new RangeError('Avro: no such branch');
    cells[index] = branch === 0 ? null : reader.view(reader.length());
  }
  reader.end();
  return cells;
}
