import type { ConsumedRecord, Operation, RowRecord } from '../../core/contracts.ts';
import { formatLsn } from '../../core/lsn.ts';
import { parseVersion, type RowVersion } from '../../core/row-version.ts';

/** The letters of Debezium, so that people who read topics know them. */
const LETTERS = { read: 'r', insert: 'c', update: 'u', delete: 'd' } as const satisfies Record<Operation, string>;

/** The headers of a table's record; all are texts. The version as raw digits: a JSON number would lose its last ones. */
export interface RecordHeaders {
  readonly version: string;
  readonly op: string;
  readonly lsn: string;
  readonly time: string;
}

export function headersOf(record: Pick<RowRecord, 'version' | 'op' | 'lsn' | 'timeMs'>): RecordHeaders {
  return { version: record.version.toString(), op: LETTERS[record.op], lsn: formatLsn(record.lsn), time: record.timeMs.toString() };
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
