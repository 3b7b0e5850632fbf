import { crc32 } from 'node:zlib';

/**
 * What finds a row's document: the tenant and the month of created_at name the index, the id names the document.
 *
 * `createdAt` is the server's own text (`2025-10-10 08:25:41.1234`), because these bytes are the Kafka key and
 * compaction compares bytes: DateStyle and TimeZone are pinned on every connection so that backfill and stream agree.
 */
export interface RowKey {
  readonly tenantId: string;
  readonly createdAt: string;
  readonly id: string;
}

/**
 * The partition of a row: by its id alone, not by the whole key.
 *
 * A row that changes tenant or created_at is a tombstone of the old key and a value of the new one, and such moves can
 * follow each other: out of a document and back into it. In one partition they come in the order of the log; in two,
 * changes of one transaction, which have one version, could meet the document in another.
 */
export function partitionOf(id: string, partitions: number): number {
  return crc32(id) % partitions;
}

/** The name of this partitioner as pinned on the control topic; change it and no old topic may be written any more. */
export const PARTITIONER = 'crc32-of-id';

/**
 * `YYYY.MM` of a row, UTC (created_at is naive UTC), or undefined for a created_at that has no such month:
 * `infinity`, a year beyond 9999, a date BC. Those rows have no index and go to the dead letters.
 */
export function monthOf(createdAt: string): string | undefined {
  const match = /^(\d{4})-(\d{2})-\d{2}[ T]\d{2}:\d{2}:\d{2}(?:\.\d+)?$/.exec(createdAt);
  return match ? `${match[1]}.${match[2]}` : undefined;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** True for a uuid as PostgreSQL prints it: dashed, lower case. Anything else never becomes part of an index name. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/** Two keys of one document: the row's created_at moved within its month. */
export function sameDocument(a: RowKey, b: RowKey): boolean {
  return a.id === b.id && a.tenantId === b.tenantId && monthOf(a.createdAt) === monthOf(b.createdAt) && monthOf(a.createdAt) !== undefined;
}

export function sameKey(a: RowKey, b: RowKey): boolean {
  return a.id === b.id && a.tenantId === b.tenantId && a.createdAt === b.createdAt;
}
