/**
 * CRC-32C (Castagnoli), which Kafka keeps of every record batch; node:zlib has only the other polynomial. Slicing by
 * eight: the byte-wise loop of kafkajs costs as much as all of its encoding.
 */
const TABLES: readonly Int32Array[] = buildTables();
const [T0, T1, T2, T3, T4, T5, T6, T7] = TABLES as [Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array];

function buildTables(): Int32Array[] {
  const tables = Array.from({ length: 8 }, () => new Int32Array(256));
  for (let index = 0; index < 256; index++) {
    let crc = index;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    tables[0]![index] = crc;
  }
  for (let level = 1; level < 8; level++) {
    for (let index = 0; index < 256; index++) {
      const previous = tables[level - 1]![index]!;
      tables[level]![index] = tables[0]![previous & 0xff]! ^ (previous >>> 8);
    }
  }
  return tables;
}

/** Of the bytes from `start` to the end; unsigned. */
export function crc32c(bytes: Uint8Array, start = 0): number {
  let crc = -1;
  let at = start;
  const whole = bytes.length - 7;
  for (; at < whole; at += 8) {
    crc =
      T7[(crc ^ bytes[at]!) & 0xff]! ^
      T6[((crc >>> 8) ^ bytes[at + 1]!) & 0xff]! ^
      T5[((crc >>> 16) ^ bytes[at + 2]!) & 0xff]! ^
      T4[((crc >>> 24) ^ bytes[at + 3]!) & 0xff]! ^
      T3[bytes[at + 4]!]! ^
      T2[bytes[at + 5]!]! ^
      T1[bytes[at + 6]!]! ^
      T0[bytes[at + 7]!]!;
  }
  for (; at < bytes.length; at++) crc = T0[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
  return (crc ^ -1) >>> 0;
}
