import type { DecodedMessage } from './decode-batches.ts';

export interface AbortedTransaction {
  readonly producerId: string;
  readonly firstOffset: string;
}

/** The key of the marker that ends an aborted transaction: version 0, type 0 (a commit has type 1). */
const ABORT = Buffer.from([0, 0, 0, 0]);

/**
 * The messages that a read_committed reader may see; control records stay in, since positions are taken from them.
 *
 * Two faults of kafkajs are mended here. The broker lists aborted transactions in the order in which they were
 * *aborted*, and kafkajs takes them for sorted by where they began; and it lets at most one begin per message. With two
 * writers in one partition it then delivered records of an aborted chunk.
 */
export function withoutAborted<M extends Pick<DecodedMessage, 'offset' | 'key' | 'isControlRecord' | 'batchContext'>>(messages: readonly M[], aborted: readonly AbortedTransaction[] | null | undefined): readonly M[] {
  if (!aborted?.length) return messages;
  const waiting = aborted.map(({ producerId, firstOffset }) => ({ producerId, first: BigInt(firstOffset) })).sort((a, b) => (a.first < b.first ? -1 : 1));
  const open = new Set<string>();
  return messages.filter(({ offset, key, isControlRecord, batchContext }) => {
    while (waiting[0] && waiting[0].first <= BigInt(offset)) open.add(waiting.shift()!.producerId);
    if (!isControlRecord) return !(batchContext.inTransaction && open.has(batchContext.producerId));
    if (key?.equals(ABORT)) open.delete(batchContext.producerId);
    return true;
  });
}
