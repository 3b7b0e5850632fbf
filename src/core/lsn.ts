/**
 * A position in PostgreSQL's write-ahead log: an unsigned 64-bit number, printed `16/B374D848`.
 *
 * Kept as a bigint: as a JS number it loses bits above 2^53, as text it sorts wrongly (`A/0` after `10/0`).
 */
export type Lsn = bigint & { readonly __brand: 'Lsn' };

export const LSN_ZERO = 0n as Lsn;

/** From the server's own notation. Throws a RangeError naming the text when it is no LSN. */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (!match) throw new RangeError(`not an LSN: ${JSON.stringify(text)}`);
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** The server's own notation, upper case, without padding (`0/0` for zero). */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffff_ffffn).toString(16)}`.toUpperCase();
}

/** Reads the 8 bytes that the replication protocol uses for an LSN. */
export function readLsn(bytes: Buffer, offset: number): Lsn {
  return bytes.readBigUInt64BE(offset) as Lsn;
}

export function maxLsn(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}
