import type { RowRecord } from '../../core/contracts.ts';
import { type RowKey, sameDocument, sameKey } from '../../core/row-key.ts';
import { type Chunk, lookUp, type ReadRow, type RunVersion } from './chunk.ts';
import { vanished } from './places.ts';
import type { ReadSession } from './read-session.ts';
import { sameStamp, selectRanges, stampSql, type TableSource, type TableStamp } from './table-source.ts';

/*
 * Rule 3: the log has to end with the newest record of a key, since compaction keeps the last one and a replay has
 * nothing else. Between reading a chunk and its arrival in the log the stream may have published newer records of the
 * same rows, which then lie before the chunk's older ones. So, once the chunk is acknowledged, its rows are read again;
 * what moved is produced again behind it, until nothing moved. What changes after that look becomes visible after it,
 * and the stream publishes only what is visible: behind these records.
 */

/** What the log says last of a row. `row: null`: a tombstone under its last key. */
export interface Known {
  readonly id: string;
  readonly row: ReadRow | null;
}

export interface Verdict {
  readonly records: readonly RowRecord[];
  /** What the log says after `records`; undefined when the row needs no further look. */
  readonly next: Known | undefined;
}

/**
 * Compares what the log says last of a row with what the table says now.
 *
 * A row that is gone gets a tombstone and stays in the loop: it may have come back, and its value been published,
 * before the tombstone. Under DELETE_POLICY=ignore nothing is produced for it, so nothing can hide what comes back. A
 * row that moved to another key leaves its old one under either policy, as it does in the stream: that is no delete.
 */
export function judge(known: Known, now: ReadRow | undefined, deletePolicy: 'apply' | 'ignore'): Verdict {
  const before = known.row;
  if (!now) {
    if (!before || deletePolicy === 'ignore') return { records: [], next: undefined };
    return { records: [tombstone(before.record, 'delete')], next: { id: known.id, row: null } };
  }
  if (before && before.xmin === now.xmin && sameKey(before.record.key, now.record.key)) return { records: [], next: undefined };
  return { records: [...left(before?.record, now.record.key), now.record], next: { id: known.id, row: now } };
}

/** Under the key that the row had; within its document it deletes nothing, as in the stream (docs/decisions/0019). */
function left(before: RowRecord | undefined, key: RowKey): RowRecord[] {
  if (!before || sameKey(before.key, key)) return [];
  return [tombstone(before, sameDocument(before.key, key) ? 'moved' : 'delete')];
}

function tombstone(like: RowRecord, op: 'delete' | 'moved'): RowRecord {
  return { ...like, op, row: null };
}

export interface RereadContext {
  /** Opens another session where an answer that was too large cost the last one. */
  readonly session: () => Promise<ReadSession>;
  readonly source: TableSource;
  readonly condition: string | null;
  readonly run: RunVersion;
  readonly deletePolicy: 'apply' | 'ignore';
  readonly limitBytes: number;
  /** Appends to the open Kafka transaction; returns when it is acknowledged. */
  readonly send: (records: readonly RowRecord[]) => Promise<void>;
  /** An open transaction holds back the consumers of its partitions, and Kafka ends it after its timeout. */
  readonly deadline: number;
}

/**
 * `settled`: the transaction may commit. `changed`: the table was rewritten, truncated or altered, so the transaction
 * must be aborted: a TRUNCATE must not become tombstones. `restless`: rows kept moving until the deadline: abort, and
 * try again later.
 */
export type RereadOutcome = 'settled' | 'changed' | 'restless';

const LOOKUP_IDS = 500;

/** Call it after all records of the chunk are acknowledged and before the transaction commits. */
export async function reread(chunk: Chunk, context: RereadContext): Promise<RereadOutcome> {
  const { stamp, places } = await readPlaces(await context.session(), context.source, chunk, context.condition);
  if (!sameStamp(stamp, context.source.stamp)) return 'changed';
  const suspects = vanished(chunk.places, places).map((index): Known => {
    const row = chunk.rows[index] as ReadRow;
    return { id: row.record.key.id, row };
  });
  return await settle(suspects, context);
}

/** The same for rows that were read by their ids, or of which a tombstone was produced: all of them are looked up. */
export async function settle(known: readonly Known[], context: Omit<RereadContext, 'condition'>): Promise<RereadOutcome> {
  let suspects = known;
  while (suspects.length > 0) {
    if (Date.now() > context.deadline) return 'restless';
    const moved = await lookAgain(suspects, context);
    if (moved === 'changed') return 'changed';
    suspects = moved;
  }
  return 'settled';
}

/** One pass over the suspects, in batches whose size shrinks where rows are large. */
async function lookAgain(suspects: readonly Known[], context: Omit<RereadContext, 'condition'>): Promise<Known[] | 'changed'> {
  const moved: Known[] = [];
  let size = LOOKUP_IDS;
  for (let at = 0; at < suspects.length; ) {
    const batch = suspects.slice(at, at + size);
    const limit = batch.length === 1 ? Number.POSITIVE_INFINITY : context.limitBytes;
    const found = await lookUp(await context.session(), context.source, batch.map(({ id }) => id), context.run, limit);
    if (found === 'overflow') {
      size = Math.max(1, Math.floor(batch.length / 4));
      continue;
    }
    // After the look-up and before its tombstones: a row may be missing because of a TRUNCATE.
    if (!sameStamp(await readStamp(await context.session(), context.source.name), context.source.stamp)) return 'changed';
    const verdicts = batch.map((known) => judge(known, found.get(known.id), context.deletePolicy));
    const records = verdicts.flatMap((verdict) => verdict.records);
    if (records.length > 0) await context.send(records);
    for (const { next } of verdicts) if (next) moved.push(next);
    at += batch.length;
  }
  return moved;
}

/** The places of all rows that are in the chunk's pages now, and the stamp, both from one statement. */
async function readPlaces(session: ReadSession, source: TableSource, chunk: Chunk, condition: string | null): Promise<{ stamp: TableStamp; places: Buffer }> {
  const [row] = await session.query(
    `SELECT ${stampSql(source.name)}, (SELECT string_agg(tidsend(ctid) || xidsend(xmin), ''::bytea) FROM (${selectRanges(source, chunk.ranges, condition, 'ctid, xmin')}) now)`,
  );
  const [relfilenode, columns, places] = row as [unknown, unknown, Buffer | null];
  return { stamp: { relfilenode: String(relfilenode), columns: String(columns) }, places: places ?? Buffer.alloc(0) };
}

async function readStamp(session: ReadSession, name: string): Promise<TableStamp> {
  const [row] = await session.query(`SELECT ${stampSql(name)}`);
  return { relfilenode: String(row?.[0]), columns: String(row?.[1]) };
}
