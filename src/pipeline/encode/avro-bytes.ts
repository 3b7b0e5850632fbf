/*
 * Avro's own bytes: a length or a union's branch is a zigzag varint, 7 bits a byte, lowest first. Lengths here never
 * reach 2^30 (Kafka's largest message is below that), so 32-bit arithmetic is enough.
 */

const LIMIT = 2 ** 30;

/** Bytes that a length takes. */
export function sizeOfLength(length: number): number {
  if (length < 64) return 1;
  if (length < 8192) return 2;
  if (length < 1_048_576) return 3;
  return length < 134_217_728 ? 4 : 5;
}

/** Writes a length and returns the offset behind it. */
export function writeLength(target: Uint8Array, offset: number, length: number): number {
  let rest = length * 2;
  while (rest >= 0x80) {
    target[offset++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  target[offset++] = rest;
  return offset;
}

/** Reads lengths and remembers where it stands. Every read checks its bounds, since the bytes may be anybody's. */
export class AvroReader {
  readonly bytes: Buffer;
  offset: number;

  constructor(bytes: Buffer, offset: number) {
    this.bytes = bytes;
    this.offset = offset;
  }

  /** A non-negative length or branch. Throws a RangeError on a negative one, on overflow and at the end of the bytes. */
  length(): number {
    let value = 0;
    let factor = 1;
    for (let index = 0; index < 5; index++) {
      const byte = this.bytes[this.offset++];
      if (byte === undefined) throw new RangeError('Avro: the bytes end within a number');
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        if (value % 2 !== 0 || value >= 2 * LIMIT) throw new RangeError('Avro: a length is negative or too large');
        return value / 2;
      }
      factor *= 128;
    }
    throw new RangeError('Avro: a number is too long');
  }

  /** Goes on behind the next bytes and returns where they begin. */
  skip(length: number): number {
    const start = this.offset;
    if (start + length > this.bytes.length) throw new RangeError('Avro: the bytes end within a value');
    this.offset = start + length;
    return start;
  }

  /** Throws when bytes are left: they would belong to columns that the schema does not name. */
  end(): void {
    if (this.offset !== this.bytes.length) throw new RangeError('Avro: bytes are left behind the last value');
  }
}
