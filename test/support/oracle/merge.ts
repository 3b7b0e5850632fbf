import { expectedIndex, type OracleTable } from './contract.ts';
import type { DocumentPosition } from './elasticsearch.ts';
import type { RowPosition } from './postgres.ts';

/** What one id looks like at both ends. */
export type Meeting =
  | { readonly kind: 'pair'; readonly row: RowPosition; readonly index: string }
  | { readonly kind: 'missing'; readonly row: RowPosition; readonly index: string }
  | { readonly kind: 'no-month'; readonly row: RowPosition }
  | { readonly kind: 'extra' | 'wrong-index'; readonly id: string; readonly index: string };

/**
 * Merges both ends, each sorted by id, without holding more than one id of either.
 *
 * A document of a row that stands in another index than the row's tenant and month say is `wrong-index`, beside the row
 * itself being found or `missing`. A document whose row does not exist is `extra`.
 */
export async function* mergeEnds(prefix: string, table: OracleTable, rows: AsyncIterable<RowPosition>, documents: AsyncIterable<DocumentPosition>): AsyncGenerator<Meeting> {
  const groups = byId(documents)[Symbol.asyncIterator]();
  let group = await groups.next();
  for await (const row of rows) {
    while (!group.done && group.value.id < row.id) {
      yield* extras(group.value);
      group = await groups.next();
    }
    const index = expectedIndex(prefix, table, row.tenantId, row.createdAt);
    const found = !group.done && group.value.id === row.id ? group.value.indices : [];
    for (const other of found) if (other !== index) yield { kind: 'wrong-index', id: row.id, index: other };
    if (index === undefined) yield { kind: 'no-month', row };
    else yield { kind: found.includes(index) ? 'pair' : 'missing', row, index };
    if (found.length > 0) group = await groups.next();
  }
  for (; !group.done; group = await groups.next()) yield* extras(group.value);
}

interface Group {
  readonly id: string;
  readonly indices: readonly string[];
}

function* extras({ id, indices }: Group): Generator<Meeting> {
  for (const index of indices) yield { kind: 'extra', id, index };
}

async function* byId(documents: AsyncIterable<DocumentPosition>): AsyncGenerator<Group> {
  let current: { id: string; indices: string[] } | undefined;
  for await (const { id, index } of documents) {
    if (current?.id === id) current.indices.push(index);
    else {
      if (current) yield current;
      current = { id, indices: [index] };
    }
  }
  if (current) yield current;
}

/** Gathers pairs until they reach a number or a size, so that rows of several MB are read a few at a time. */
export async function* inBatches(meetings: AsyncIterable<Meeting>, limits: { count: number; bytes: number }, other: (meeting: Exclude<Meeting, { kind: 'pair' }>) => void): AsyncGenerator<Extract<Meeting, { kind: 'pair' }>[]> {
  let batch: Extract<Meeting, { kind: 'pair' }>[] = [];
  let bytes = 0;
  for await (const meeting of meetings) {
    if (meeting.kind !== 'pair') {
      other(meeting);
      continue;
    }
    batch.push(meeting);
    bytes += meeting.row.bytes;
    if (batch.length < limits.count && bytes < limits.bytes) continue;
    yield batch;
    [batch, bytes] = [[], 0];
  }
  if (batch.length > 0) yield batch;
}
