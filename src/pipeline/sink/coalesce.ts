import type { RowVersion } from '../../core/row-version.ts';

/** Which document a record is about. Two Kafka keys can name one document: created_at moved inside its month. */
export interface Target {
  readonly index: string;
  readonly id: string;
  readonly version: RowVersion;
}

export interface Coalesced<T> {
  /** One record for each document, grouped by index, so that a bulk meets few shards at a time. */
  readonly winners: T[];
  /** The others: the document there will be newer. */
  readonly losers: T[];
}

/**
 * The record with the highest version wins, on a tie the last. Not simply the last: `[update @lsn][older backfilled row
 * @L-1]` is a legal order of a partition. On a tie the last: all changes of one transaction have one version.
 */
export function coalesce<T extends Target>(records: readonly T[]): Coalesced<T> {
  const byIndex = new Map<string, Map<string, T>>();
  const losers: T[] = [];
  for (const record of records) {
    let documents = byIndex.get(record.index);
    if (!documents) byIndex.set(record.index, (documents = new Map<string, T>()));
    const rival = documents.get(record.id);
    if (rival && rival.version > record.version) {
      losers.push(record);
      continue;
    }
    if (rival) losers.push(rival);
    documents.set(record.id, record);
  }
  const winners: T[] = [];
  for (const documents of byIndex.values()) for (const record of documents.values()) winners.push(record);
  return { winners, losers };
}
