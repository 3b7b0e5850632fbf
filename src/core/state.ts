import type { DeadLetterCause, TableName } from './contracts.ts';

/*
 * What the program remembers. The control topic holds it: one partition, compacted, key → JSON; LSNs and versions are
 * texts in it, since JSON numbers lose their last digits. What must outlive Kafka (see OUTLIVES_KAFKA) is also kept in
 * the index `{prefix}-cdc-state`; where the two differ, the higher counts.
 */

/** Written before the first record of an epoch, and its high-water mark before each confirmation of the slot. */
export interface EpochRecord {
  readonly epoch: number;
  /** IDENTIFY_SYSTEM of the source: another one is another source (failover, restore, pg_upgrade). */
  readonly systemIdentifier: string;
  readonly timeline: number;
  /**
   * The highest LSN ever confirmed in this epoch. A source that is below it was rolled back (a copied data folder keeps
   * both identifiers); a slot that is above it was re-created or moved by somebody else.
   */
  readonly highWaterLsn: string;
  /** The commit that was published last when the mark was recorded: a slot that stands before it sends it again. */
  readonly lastCommit?: { readonly endLsn: string; readonly timeMs: number };
  readonly slot: string;
  readonly at: string;
}

/** Partition count and partitioner, pinned when the topics are created: another count breaks the order of a row. */
export interface LayoutRecord {
  readonly partitions: number;
  readonly partitioner: string;
}

/** The columns behind a fingerprint, acknowledged before the first record that uses it. */
export interface SchemaRecord {
  readonly table: TableName;
  readonly columns: readonly string[];
  readonly avro: unknown;
}

export interface BackfillFilter {
  readonly tables: readonly TableName[];
  readonly tenantIds: readonly string[];
  /** Naive UTC as PostgreSQL compares it; from is inclusive, before exclusive. */
  readonly from: string | null;
  readonly before: string | null;
}

/** One backfill, from its barrier to its end. An open one keeps cleanup-pg out, also after its process died. */
export interface BackfillRun {
  readonly runId: string;
  readonly state: 'open' | 'done' | 'void';
  readonly epoch: number;
  readonly slot: string;
  /** L of the barrier; rows are published with the version of L - 1. */
  readonly barrierLsn: string;
  readonly filter: BackfillFilter;
  readonly tables: Readonly<Partial<Record<TableName, BackfillTable>>>;
  readonly startedAt: string;
  readonly endedAt: string | null;
}

export interface BackfillTable {
  /** pg_relation_filenode at the barrier: another one means that the table was rewritten, and the scan starts again. */
  readonly relfilenode: string;
  /** Pages to read, counted after the barrier. */
  readonly blocks: number;
  readonly segmentBlocks: number;
  /** Estimated rows, for the progress bar only. */
  readonly estimatedRows: number;
  /** Counts scans: a rewrite voids the progress of the scan before. */
  readonly scan: number;
}

/** Progress of one segment of a table, written in the same Kafka transaction as the rows it counts. */
export interface SegmentProgress {
  readonly nextBlock: number;
  readonly done: boolean;
  readonly rows: number;
  readonly bytes: number;
}

/**
 * One process that reads for a run. Written before the process writes anything else and removed only when none of its
 * writers can write any more: whoever takes its segments over fences them first. Changed by `ControlLog.change` alone.
 */
export interface BackfillMember {
  readonly memberId: string;
  readonly runId: string;
  /** Its writers: their transactional.ids are numbered from 0. */
  readonly workers: number;
  /** The advisory lock (second key) that its process holds in the database as long as it is connected. */
  readonly lock: number;
  /** `table/scan/segment`, those that it reads or will read next; nobody else touches them. */
  readonly segments: readonly string[];
  /** Others have given it up and are about to fence its writers: it must not write any more. */
  readonly givenUp: boolean;
  readonly at: string;
}

/** A sign of life of one process of a run; another number each time, since clocks of machines differ. */
export interface BackfillBeat {
  readonly beat: number;
}

/** Shown by status until a full backfill (and, where asked, a reconcile of extra documents) is done. */
export interface BackfillRequired {
  readonly table: TableName;
  readonly reason: 'first-run' | 'slot-created' | 'slot-lost' | 'new-epoch' | 'schema-drift' | 'kafka-data-lost' | 'source-restored';
  /** A run satisfies it when its barrier is at or above this LSN and its epoch at or above this epoch. */
  readonly sinceLsn: string;
  readonly sinceEpoch: number;
  /** The end of the gap in the stream, where a later drift has moved `sinceLsn` beyond it: runs that began in between go on. */
  readonly gapLsn?: string;
  /** Documents of a lost branch or of deletes that nobody saw may remain: validate must also find extra ones. */
  readonly reconcile: boolean;
  /** Set where `reconcile` is asked: the full run that has read the table since. Only the extra documents are left. */
  readonly backfilledBy?: string;
  readonly at: string;
}

/** The columns that a table had when its rows were last known to be right; another set is drift. */
export interface ColumnsRecord {
  readonly table: TableName;
  readonly columns: readonly string[];
  readonly at: string;
}

/**
 * A table that was in the publication when its backfill became required. One that was added without this record (by a
 * setup that was killed, by hand), or made anew under its name, has changes that were never published.
 */
export interface PublishedRecord {
  readonly oid: number;
  readonly at: string;
}

/** A TRUNCATE seen on the log, and what was done about it. */
export interface TruncateRecord {
  readonly table: TableName;
  readonly lsn: string;
  readonly policy: 'ignore' | 'apply';
  readonly applied: boolean;
  readonly at: string;
}

/** DELETE_POLICY of the reader. */
export interface DeletePolicyRecord {
  readonly policy: 'apply' | 'ignore';
  readonly at: string;
}

/** A tenant whose truth is Elasticsearch: nothing of this program writes its documents any more unless forced. */
export interface SwitchedRecord {
  readonly tenantId: string;
  /** What Kafka got before it is in Elasticsearch: a replay of rows that came late begins here. */
  readonly at: string;
  readonly lsn: string;
}

/** `cutover` found the tenant ready to be switched, and on what grounds. Taken back when a later look says no. */
export interface ReadyRecord {
  readonly tenantId: string;
  readonly at: string;
  /** The drain point up to which both ends were equal. */
  readonly lsn: string;
  readonly evidence: readonly { readonly subject: string; readonly message: string }[];
}

/** Rows of this month and before are settled as `expired` for the tenant: their indices were dropped. */
export interface RetentionRecord {
  readonly tenantId: string;
  readonly throughMonth: string;
  readonly at: string;
}

/** Rows before this date were moved out of PostgreSQL by cleanup-pg: their documents are no surplus. */
export interface ArchivedRecord {
  readonly tenantId: string;
  readonly table: TableName;
  readonly before: string;
  readonly at: string;
}

/** Announced before the first marked transaction, so that nobody else can suppress tombstones with a message. */
export interface CleanupRun {
  readonly runId: string;
  readonly state: 'open' | 'done';
  readonly tenantId: string;
  readonly before: string;
  readonly at: string;
}

/**
 * Who holds a writer's role: written in a transaction of its own as soon as a process takes the role over. Kafka's answer
 * to a fenced producer and to one whose transaction expired is the same; this record tells them apart.
 */
export interface WriterRecord {
  readonly instance: string;
  readonly at: string;
}

/** A person's decision that a row stays out (`dlq accept`), under the letter that was looked at. */
export interface AcceptedRecord {
  /** `table/id`; null where the letter names no row, so that the decision is of this letter alone. */
  readonly row: string | null;
  /** A letter of the row with another cause is a new question. */
  readonly cause: DeadLetterCause;
  readonly why: string;
  readonly at: string;
}

/**
 * What redrives did to a stretch of letters: `redriven`, or how often they failed. Offsets inclusive, ascending, each in
 * one run at most; a letter in none is open and was never tried. Runs, because a record for each of some 100,000 letters
 * would be read by every process at its start and kept in its memory.
 */
export interface LetterRunsRecord {
  readonly runs: readonly (readonly [from: number, to: number, state: 'redriven' | number])[];
}

/** The keys of the control topic and what is behind each. */
export const stateKeys = {
  epoch: 'epoch',
  layout: 'layout',
  schema: (fingerprint: string): string => `schema/${fingerprint}`,
  run: (runId: string): string => `backfill/run/${runId}`,
  segments: (runId: string): string => `backfill/segment/${runId}/`,
  segment: (runId: string, table: TableName, scan: number, segment: number): string => `backfill/segment/${runId}/${table}/${scan}/${segment}`,
  member: (runId: string, memberId: string): string => `backfill/member/${runId}/${memberId}`,
  beat: (memberId: string): string => `backfill/beat/${memberId}`,
  published: (table: TableName): string => `publication/${table}`,
  required: (table: TableName): string => `backfill/required/${table}`,
  columns: (table: TableName): string => `columns/${table}`,
  truncate: (table: TableName, lsn: string): string => `truncate/${table}/${lsn}`,
  deletePolicy: 'policy/delete',
  ready: (tenantId: string): string => `tenant/ready/${tenantId}`,
  switched: (tenantId: string): string => `tenant/switched/${tenantId}`,
  retention: (tenantId: string): string => `tenant/retention/${tenantId}`,
  archived: (tenantId: string, table: TableName): string => `tenant/archived/${tenantId}/${table}`,
  cleanup: (runId: string): string => `cleanup/run/${runId}`,
  writer: (transactionalId: string): string => `writer/${transactionalId}`,
  letter: (id: string): string => `dlq/${id}`,
  letterRuns: (stretch: number): string => `dlq-runs/${stretch}`,
} as const;

/** Keys with one of these beginnings are written to Elasticsearch too: with Kafka's data deleted nothing may go stale. */
export const OUTLIVES_KAFKA = ['epoch', 'tenant/', 'cleanup/', 'truncate/'] as const;

/** What a change writes; the value null takes the key away. */
export interface ControlChange<T> {
  readonly writes: readonly (readonly [key: string, value: unknown])[];
  readonly result: T;
}

/**
 * A view of the control topic that follows it. `put` returns when the brokers have acknowledged the record and this
 * view shows it. Two writers of one key: the later wins, so every key has one role that writes it.
 */
export interface ControlLog {
  get<T>(key: string): T | undefined;
  /** All keys with that beginning, sorted. */
  entries<T>(prefix: string): [key: string, value: T][];
  put(key: string, value: unknown): Promise<void>;
  remove(key: string): Promise<void>;
  /**
   * Writes what `decide` says, all of it or nothing, for keys that several processes write. Between the view that
   * `decide` sees and its writes lies no other change of this kind by any process; `put` and `remove` know nothing of
   * it. `decide` is called again after another process came first or an answer was lost, so it must recognise its own
   * writes. What it throws passes through, and nothing is written. For keys that live in Kafka alone.
   */
  change<T>(decide: () => ControlChange<T>): Promise<T>;
  /** Called after each record that changes the view; returns the function that ends it. */
  onChange(listener: (key: string) => void): () => void;
  /** Resolves once the view holds everything that was on the topic at the moment of the call. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}
