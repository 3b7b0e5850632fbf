/**
 * A physical place of a row version as one number: block * 2^16 + offset. Blocks have 32 bits and offsets 16, so it is
 * exact as a JS number, and a range of places is two numbers.
 */
export type Tid = number;

const OFFSETS = 65_536;

export const tidOf = (block: number, offset: number): Tid => block * OFFSETS + offset;
export const blockOf = (tid: Tid): number => Math.floor(tid / OFFSETS);
export const offsetOf = (tid: Tid): number => tid % OFFSETS;
/** As PostgreSQL reads it: `(12,0)`. */
export const tidText = (tid: Tid): string => `(${blockOf(tid)},${offsetOf(tid)})`;

/** `from` inclusive, `to` exclusive. */
export interface TidRange {
  readonly from: Tid;
  readonly to: Tid;
}

export const blockRange = (from: number, to: number): TidRange => ({ from: tidOf(from, 0), to: tidOf(to, 0) });

/**
 * PostgreSQL 14 and later read this as a TID Range Scan (nodeTidrangescan.c): only these pages, in physical order. The
 * bounds must be constants and ranges must not be joined by OR, or the whole table is read for each chunk.
 */
export const rangeSql = (range: TidRange): string => `ctid >= '${tidText(range.from)}' AND ctid < '${tidText(range.to)}'`;
