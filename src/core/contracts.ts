import type { Cells, Tuple } from './cells.ts';
import type { Lsn } from './lsn.ts';
import type { RowKey } from './row-key.ts';
import type { RowVersion } from './row-version.ts';

/*
 * Read this first: the words that the stages hand to each other. Rows are bytes all the way. A cell is the server's own
 * text in UTF-8, taken once out of PostgreSQL's buffer and never turned into a JS value on the way to Elasticsearch,
 * since a timestamp would lose its microseconds, a bigint its last digits and JSON its key order. The cells of a row lie
 * in one buffer (see cells.ts).
 */

/** The four tables of Dify. `--data-type` has shorter names for them (`dataType` in connectors/). */
export const TABLES = ['workflow_runs', 'workflow_app_logs', 'workflow_node_executions', 'workflow_node_execution_offload'] as const;
export type TableName = (typeof TABLES)[number];

/** One value as the server prints it, UTF-8; null is SQL NULL. */
export type Cell = Buffer | null;

/** The columns of a row, in the order of its cells. Matched by name everywhere: upgraded databases have another order. */
export interface RowShape {
  readonly table: TableName;
  readonly columns: readonly string[];
}

/** A complete row: never with a hole. One cell for each column of the shape. */
export interface Row {
  readonly shape: RowShape;
  readonly cells: Cells;
}

// ---------------------------------------------------------------------------------------------- from the WAL (decode)

/** A table as pgoutput announced it. A new object for every Relation message, so identity tells of a change in shape. */
export interface Relation {
  readonly oid: number;
  readonly shape: RowShape;
  readonly replicaIdentity: 'default' | 'nothing' | 'full' | 'index';
}

/** What the log holds of the row before the change. `key`: only the identity columns are real, the others are null. */
export type OldTuple =
  | { readonly kind: 'absent' }
  | { readonly kind: 'key'; readonly cells: Tuple }
  | { readonly kind: 'full'; readonly cells: Tuple };

/**
 * One message of pgoutput (protocol version 1). Its buffers are copies and stay valid: the library's are views of one
 * that it reuses. Between `begin` and `commit` come only changes of that transaction, which has committed on the
 * primary, though other sessions may not see it yet.
 */
export type WalMessage =
  | { readonly kind: 'begin'; readonly xid: number; readonly commitLsn: Lsn; readonly commitTimeMs: number }
  | { readonly kind: 'relation'; readonly relation: Relation }
  | { readonly kind: 'insert'; readonly relation: Relation; readonly tuple: Tuple }
  | { readonly kind: 'update'; readonly relation: Relation; readonly old: OldTuple; readonly tuple: Tuple }
  | { readonly kind: 'delete'; readonly relation: Relation; readonly old: OldTuple }
  | { readonly kind: 'truncate'; readonly relations: readonly Relation[] }
  | { readonly kind: 'logical-message'; readonly transactional: boolean; readonly prefix: string; readonly content: Buffer }
  | { readonly kind: 'commit'; readonly commitLsn: Lsn; readonly endLsn: Lsn; readonly commitTimeMs: number }
  | { readonly kind: 'other' };

// ---------------------------------------------------------------------------- from the log to whole rows (capture, decode)

/** Prefix of the logical message that opens a transaction of cleanup-pg; its content is the run id. */
export const CLEANUP_MARKER = 'dify-es.cleanup';

/** What all changes of one transaction share: one object for each, also where a large one comes in several batches. */
export interface LoggedTransaction {
  /** Unsigned 32 bits, of the top-level transaction. */
  readonly xid: number;
  readonly commitLsn: Lsn;
  readonly commitTimeMs: number;
  /** The run id of the marker that came before the first change, believed only when it was announced; else null. */
  readonly cleanupRunId: string | null;
}

export type RowChange = Extract<WalMessage, { readonly kind: 'insert' | 'update' | 'delete' }>;
export type LoggedMessage = RowChange | Extract<WalMessage, { readonly kind: 'relation' | 'truncate' }>;

/** One message of a batch, in the order of the log. */
export interface LoggedChange {
  readonly transaction: LoggedTransaction;
  readonly message: LoggedMessage;
}

/**
 * Reads columns of rows that other sessions see now, for holes left by unchanged TOAST. Answers for the first ids of
 * the list, at least one, and leaves the others to the next call once enough bytes have come together. A column that
 * the table no longer has is missing in `columns`; a row that is not there has null instead of its cells.
 */
export type FetchRows = (relation: Relation, ids: readonly string[], columns: readonly string[]) => Promise<FetchedRows>;
export interface FetchedRows {
  readonly columns: readonly string[];
  readonly rows: ReadonlyMap<string, readonly Cell[] | null>;
  /** The end of the WAL then: whatever took a missing row away has committed below this. */
  readonly asOf: Lsn;
}

/** Records and dead letters of some changes of a batch. */
export interface MadeRecords {
  readonly records: readonly RowRecord[];
  readonly letters: readonly DeadLetter[];
}

// ------------------------------------------------------------------------------------------------ into Kafka (encode)

/** Header `op` as one letter. Those of Debezium, so that people who read topics know them, and one of our own. */
export const OPERATION_LETTERS = { read: 'r', insert: 'c', update: 'u', delete: 'd', moved: 'm' } as const;

/**
 * `read`: by the backfill or a re-read; the others: from the log. `moved`: a tombstone for compaction alone, since the row
 * has another key of the same document now (docs/decisions/0019).
 */
export type Operation = keyof typeof OPERATION_LETTERS;

/** One record of a table's topic. `row: null` is a tombstone: the document of this key is to be deleted, unless it moved. */
export interface RowRecord {
  readonly table: TableName;
  readonly key: RowKey;
  readonly version: RowVersion;
  readonly op: Operation;
  /** Commit LSN of the change; for a backfilled row the barrier minus one. */
  readonly lsn: Lsn;
  /** Milliseconds since 1970 UTC: commit time of the change; for a backfilled row the time of reading. */
  readonly timeMs: number;
  readonly row: Row | null;
}

/** Why something could not go on by itself. Closed: `dlq list` groups by it and every one has a cure in docs/05. */
export const DEAD_LETTER_CAUSES = [
  'row-too-large', // beyond max.message.bytes: parked by key, re-read from PostgreSQL on redrive
  'row-gone', // an unchanged TOAST column could not be filled, since the row is gone and its delete is not applied
  'no-month', // created_at has no month (infinity, BC, beyond 9999): there is no index for it
  'bad-key', // an id or tenant_id that is no uuid, or a delete without tenant_id and created_at
  'undecodable', // the Kafka record is not what this program writes
  'refused', // Elasticsearch answered 400: mapping, parsing
  'too-large-for-elasticsearch', // refused alone, again and again, while others passed
] as const;
export type DeadLetterCause = (typeof DEAD_LETTER_CAUSES)[number];

/** Never holds a row's values outside `value`, which is the encoded record itself. */
export interface DeadLetter {
  readonly cause: DeadLetterCause;
  /** One line for a person: a server's error type and field name; never a value. */
  readonly detail: string;
  readonly table: TableName;
  readonly key: RowKey | null;
  readonly version: RowVersion | null;
  readonly origin: { readonly stage: 'stream' | 'backfill' | 'sink'; readonly topic?: string; readonly partition?: number; readonly offset?: string; readonly lsn?: string };
  /** The Avro value of the record; null when it is a tombstone or was too large for Kafka. */
  readonly value: Buffer | null;
}

/**
 * One Kafka transaction of a fenced writer.
 *
 * `send` may be called several times; it returns when the brokers have acknowledged the records (acks=all), which
 * consumers still do not see. By then it has written the rows out: their memory may be used again. Only after `commit`
 * has returned may anything be forgotten that could make the records again: the slot's position, a chunk's progress.
 * When any call throws, the transaction is dead: call `abort`, which never throws, and begin again. ERR KAFKA_FENCED
 * means that another process has taken over the role: stop.
 */
export interface PublishTransaction {
  send(records: readonly RowRecord[]): Promise<void>;
  park(letters: readonly DeadLetter[]): Promise<void>;
  putControl(key: string, value: unknown): Promise<void>;
  commit(): Promise<void>;
  abort(): Promise<void>;
}

export interface Publisher {
  begin(): Promise<PublishTransaction>;
  close(): Promise<void>;
}

// ------------------------------------------------------------------------------------------- out of Kafka (kafka, sink)

/** One record as the consumer group delivers it: still encoded, with the version already read from its header. */
export interface ConsumedRecord {
  readonly table: TableName;
  readonly partition: number;
  readonly offset: string;
  readonly key: Buffer;
  readonly value: Buffer | null;
  readonly headers: { readonly version: RowVersion | null; readonly op: string; readonly lsn: string; readonly timeMs: number };
}

/**
 * What became of one record. All but `retry` settle it, and only settled records may be committed to Kafka.
 * `stale`: the document there is newer. `expired`: its month was dropped by retention. `switched`: its tenant's truth is
 * Elasticsearch now. `dead-letter`: kept in the dead-letter topic, acknowledged there.
 */
export type Outcome = 'applied' | 'stale' | 'expired' | 'switched' | 'dead-letter' | 'retry';
