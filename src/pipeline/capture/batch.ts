import type { LoggedChange, LoggedMessage, LoggedTransaction, Relation, WalMessage } from '../../core/contracts.ts';
import { CLEANUP_MARKER } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import type { Lsn } from '../../core/lsn.ts';

export interface BatchLimits {
  readonly maxChanges: number;
  readonly maxBytes: number;
}

/** What is published in one Kafka transaction. */
export interface Batch {
  readonly changes: readonly LoggedChange[];
  readonly bytes: number;
  readonly rowChanges: number;
  readonly commits: number;
  /** End of the last commit in it, and its time; null where the batch is a piece out of one large transaction. */
  readonly lastCommit: { readonly endLsn: Lsn; readonly commitTimeMs: number } | null;
}

/** A transaction while its changes come in; the marker counts only before the first of them. */
type OpenTransaction = { -readonly [K in keyof LoggedTransaction]: LoggedTransaction[K] } & { touched: boolean };

/**
 * Gathers messages of the log into batches. Bounded in changes and bytes: a transaction larger than that comes in
 * several batches, each of whose records already has the transaction's version. A TRUNCATE ends its batch, so that
 * what came before it is published before anything is done about it.
 */
export class Batcher {
  readonly #limits: BatchLimits;
  #open: OpenTransaction | null = null;
  #changes: LoggedChange[] = [];
  #bytes = 0;
  #rowChanges = 0;
  #commits = 0;
  #lastCommit: Batch['lastCommit'] = null;
  #truncated = false;

  constructor(limits: BatchLimits) {
    this.#limits = limits;
  }

  get isEmpty(): boolean {
    return this.#changes.length === 0 && this.#commits === 0;
  }

  /** No transaction is half in and half still to come. */
  get atBoundary(): boolean {
    return this.#open === null;
  }

  get isFull(): boolean {
    return this.#truncated || this.#rowChanges >= this.#limits.maxChanges || this.#bytes >= this.#limits.maxBytes;
  }

  add(message: WalMessage, bytes: number): void {
    switch (message.kind) {
      case 'begin':
        this.#open = { xid: message.xid, commitLsn: message.commitLsn, commitTimeMs: message.commitTimeMs, cleanupRunId: null, touched: false };
        return;
      case 'commit':
        this.#open = null;
        this.#commits++;
        this.#lastCommit = { endLsn: message.endLsn, commitTimeMs: message.commitTimeMs };
        return;
      case 'logical-message':
        // A message outside of transactions has no begin before it and says nothing about any.
        if (message.transactional && message.prefix === CLEANUP_MARKER && this.#open && !this.#open.touched) this.#open.cleanupRunId ??= message.content.toString('utf8');
        return;
      case 'relation': return this.#push(message, bytes);
      case 'truncate':
        this.#truncated = true;
        return this.#push(message, bytes);
      case 'insert': case 'update': case 'delete':
        this.#rowChanges++;
        return this.#push(message, bytes);
      case 'other': return;
      default: message satisfies never;
    }
  }

  /** The batch so far, and begins the next one. */
  take(): Batch {
    const batch = { changes: this.#changes, bytes: this.#bytes, rowChanges: this.#rowChanges, commits: this.#commits, lastCommit: this.#lastCommit };
    this.#changes = [];
    this.#bytes = 0;
    this.#rowChanges = 0;
    this.#commits = 0;
    this.#lastCommit = null;
    this.#truncated = false;
    return batch;
  }

  #push(message: LoggedMessage, bytes: number): void {
    const transaction = this.#open;
    if (!transaction) throw new DifyEsError('INTERNAL', `pgoutput sent a change (${message.kind}) outside of a transaction`);
    if (message.kind !== 'relation') transaction.touched = true;
    this.#changes.push({ transaction, message });
    this.#bytes += bytes;
  }
}

/** The transactions of a batch, each once, in their order. */
export function transactionsOf(batch: Batch): LoggedTransaction[] {
  return [...new Set(batch.changes.filter(({ message }) => message.kind !== 'relation').map(({ transaction }) => transaction))];
}

/** The tables announced in a batch, each with the transaction that made the server announce it. */
export function relationsOf(batch: Batch): { readonly relation: Relation; readonly commitLsn: Lsn }[] {
  return batch.changes.flatMap(({ message, transaction }) => (message.kind === 'relation' ? [{ relation: message.relation, commitLsn: transaction.commitLsn }] : []));
}
