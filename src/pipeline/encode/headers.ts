import { type ConsumedRecord, OPERATION_LETTERS as LETTERS, type RowRecord } from '../../core/contracts.ts';
import { formatLsn } from '../../core/lsn.ts';
import { parseVersion, type RowVersion } from '../../core/row-version.ts';

/** Header `op` of what the application itself wrote: no row that a backfill read, and no delete. */
export const WRITES: ReadonlySet<string> = new Set([LETTERS.insert, LETTERS.update]);

/** The headers of a table's record; all are texts. The version as raw digits: a JSON number would lose its last ones. */
export type RecordHeaders = Readonly<Record<'version' | 'op' | 'lsn' | 'time', string>>;

type Described = Pick<RowRecord, 'version' | 'op' | 'lsn' | 'timeMs'>;

let last: { readonly of: Described; readonly headers: RecordHeaders } | undefined;

/** One object for a whole chunk or transaction: what its records have in common is made into text once. */
export function headersOf(record: Described): RecordHeaders {
  if (!last || record.version !== last.of.version || record.op !== last.of.op || record.lsn !== last.of.lsn || record.timeMs !== last.of.timeMs) {
    last = { of: record, headers: { version: record.version.toString(), op: LETTERS[record.op], lsn: formatLsn(record.lsn), time: record.timeMs.toString() } };
  }
  return last.headers;
}

/** A header as a client library hands it out. */
type RawHeader = Buffer | string | (Buffer | string)[] | undefined;

/**
 * Never throws: a record without a readable version is delivered with `version: null` and the sink parks it, because
 * one foreign record must not stop a partition.
 */
export function parseHeaders(headers: Readonly<Record<string, RawHeader>> | undefined): ConsumedRecord['headers'] {
  const text = (name: string): string => {
    const value = headers?.[name];
    return value === undefined ? '' : (Array.isArray(value) ? (value[0] ?? '') : value).toString();
  };
  return { version: versionOrNull(text('version')), op: text('op'), lsn: text('lsn'), timeMs: Number(text('time')) || 0 };
}

function versionOrNull(digits: string): RowVersion | null {
  return /^[0-9]{1,19}$/.test(digits) && BigInt(digits) < 1n << 63n ? parseVersion(digits) : null;
}
