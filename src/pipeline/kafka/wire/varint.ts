/*
 * Kafka's record fields are zigzag varints, lowest 7 bits first. All of them fit 32 bits here but the timestamp delta,
 * which is read as a JS number (below 2^53: milliseconds).
 */

function zigzag(value: number): number {
  return value >= 0 ? value * 2 : -value * 2 - 1;
}

export function sizeOfVarint(value: number): number {
  let rest = zigzag(value);
  let size = 1;
  for (; rest >= 0x80; size++) rest = Math.floor(rest / 128);
  return size;
}

export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let rest = zigzag(value);
  while (rest >= 0x80) {
    target[offset++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  target[offset++] = rest;
  return offset;
}

/** Where a reader of varints stands. */
export interface Cursor {
  at: number;
}

/** Throws a RangeError at the end of the bytes and on a number that is too long. */
export function readVarint(bytes: Uint8Array, cursor: Cursor): number {
  let value = 0;
  let factor = 1;
  for (let count = 0; count < 8; count++) {
    const byte = bytes[cursor.at++];
    if (byte === undefined) throw new RangeError('Kafka record: the bytes end within a number');
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
    factor *= 128;
  }
  throw new RangeError('Kafka record: a number is too long');
}
