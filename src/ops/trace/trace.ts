import type { TableName } from '../../core/contracts.ts';
import { formatLsn } from '../../core/lsn.ts';
import { splitVersion, type RowVersion } from '../../core/row-version.ts';

/** The row in PostgreSQL: where it is and who wrote it, none of its values but the key. */
export interface TracedRow {
  readonly tenantId: string;
  readonly createdAt: string;
  readonly ctid: string;
  readonly xmin: string;
  /** When xmin committed; null unless track_commit_timestamp is on. */
  readonly committedAt: string | null;
}

export interface TracedRecord {
  readonly offset: string;
  readonly tenantId: string;
  readonly createdAt: string;
  /** A letter of OPERATION_LETTERS. */
  readonly op: string;
  readonly tombstone: boolean;
  readonly bytes: number;
  readonly version: string | null;
  readonly epoch: number | null;
  /** Of the commit; for a backfilled row the barrier minus one. */
  readonly lsn: string;
  readonly time: string;
  /** The sinks are beyond it. */
  readonly settled: boolean;
}

export interface TracedDocument {
  readonly index: string;
  /** All digits, as the server wrote them. */
  readonly version: string;
  /** Null for a version that Dify itself gave it. */
  readonly epoch: number | null;
  readonly lsn: string | null;
  readonly seqNo: number;
}

export interface TracedLetter {
  readonly id: string;
  readonly state: string;
  readonly cause: string;
  readonly version: string | null;
  readonly at: string;
}

export interface Trace {
  readonly table: TableName;
  readonly id: string;
  /** Null when no such row exists. */
  readonly row: TracedRow | null;
  readonly topic: string;
  readonly partition: number;
  /** Offsets looked at, and where the sinks are. */
  readonly searched: { readonly from: string; readonly to: string; readonly sinksAt: string };
  /** The newest ones. */
  readonly records: readonly TracedRecord[];
  /** Of these, how many were found in all. */
  readonly recordsFound: number;
  readonly documents: readonly TracedDocument[];
  readonly letters: readonly TracedLetter[];
}

const OWN = 1n << 52n;

/** Epoch and LSN of a version; nulls for one of Dify's own (below 2^52). */
export function readVersion(version: bigint): { epoch: number | null; lsn: string | null } {
  if (version < OWN) return { epoch: null, lsn: null };
  const { epoch, position } = splitVersion(version as RowVersion);
  return { epoch, lsn: formatLsn(position) };
}

/** What all of it says, in one line and with what to do. */
export function verdictOf({ row, records, documents, letters }: Pick<Trace, 'row' | 'records' | 'documents' | 'letters'>): string {
  const last = records.at(-1);
  const open = letters.filter(({ state }) => state === 'open');
  if (open.length > 0) return `${open.length} of its changes are dead letters: \`dify-es dlq show ${open[0]!.id}\``;
  if (!last && !row && documents.length === 0) return 'it is nowhere';
  if (!last && row) return documents.length > 0 ? 'Kafka holds no record of it in what was searched' : 'it never came to Kafka: run `dify-es migrate`, or see that the stream runs';
  if (last && !last.settled) return 'the sinks have not come to its last record yet';
  const newest = documents.map(({ version }) => BigInt(version)).reduce((a, b) => (a > b ? a : b), -1n);
  if (documents.length > 1) return 'it has more than one document: `dify-es validate --full --repair --delete-extra`';
  if (!last) return 'only a document is left: deleted by cleanup-pg, kept by a policy, or surplus (`dify-es validate`)';
  if (last.tombstone) {
    if (newest < 0n) return row ? 'its last record is a delete, and the row is there: `dify-es validate --repair`' : 'deleted on both ends';
    return 'its last record is a delete, and a document is there: `dify-es validate --full`';
  }
  if (newest < 0n) return 'its document is missing: its month was dropped, its tenant is switched, or `dify-es validate --repair`';
  if (newest === BigInt(last.version ?? -2n)) return 'the document is its last record';
  return newest > BigInt(last.version ?? -2n) ? 'the document is newer than its last record: Dify or a forced write was there' : 'the document is older than its last record: `dify-es validate --repair`';
}
