import type { ConsumedRecord, DeadLetter, DeadLetterCause, Outcome, Row, TableName } from '../../core/contracts.ts';
import type { RowKey } from '../../core/row-key.ts';
import type { RowVersion } from '../../core/row-version.ts';
import { BulkBody } from './bulk-body.ts';
import type { BulkItem } from './bulk-body.ts';
import type { Sendable, Settled } from './bulk-writer.ts';
import { OffsetLedger } from './committable-offset.ts';
import type { DocumentWriter } from './document.ts';

export interface BatchResult {
  /** What to commit to Kafka, as it is; undefined when nothing may be committed. */
  readonly committable: string | undefined;
  /** False when the signal came before every record was settled. */
  readonly complete: boolean;
  readonly counts: Readonly<Record<Exclude<Outcome, 'retry'>, number>>;
  /** Documents with a JSON column that is kept as `_invalid_json`. */
  readonly invalidJson: number;
  readonly bulkBytes: number;
}

/** A record whose document is known. */
export interface Routed {
  readonly position: number;
  readonly record: ConsumedRecord;
  readonly key: RowKey;
  readonly index: string;
  readonly id: string;
  readonly version: RowVersion;
}

/** What has become of one batch so far. */
export class Batch {
  readonly table: TableName;
  readonly records: readonly ConsumedRecord[];
  /** Refused records; they are settled when the dead-letter topic has acknowledged them. */
  readonly letters: { readonly position: number; readonly letter: DeadLetter }[] = [];
  bulkBytes = 0;
  private readonly partition: number;
  private readonly ledger: OffsetLedger;
  private readonly counts = { applied: 0, stale: 0, expired: 0, switched: 0, 'dead-letter': 0 };
  private invalidJson = 0;

  constructor(table: TableName, partition: number, records: readonly ConsumedRecord[], lastOffset: string) {
    this.table = table;
    this.partition = partition;
    this.records = records;
    this.ledger = new OffsetLedger(records.map(({ offset }) => offset), lastOffset);
  }

  settle(position: number, outcome: Exclude<Outcome, 'retry'>, invalidJson = false): void {
    this.ledger.settle(position);
    this.counts[outcome]++;
    if (invalidJson) this.invalidJson++;
  }

  refuse(position: number, key: RowKey | null, cause: DeadLetterCause, detail: string): void {
    const { headers, offset, value } = this.records[position]!;
    const origin = { stage: 'sink' as const, partition: this.partition, offset, lsn: headers.lsn };
    this.letters.push({ position, letter: { cause, detail, table: this.table, key, version: headers.version, origin, value } });
  }

  result(): BatchResult {
    const { ledger, counts, invalidJson, bulkBytes } = this;
    return { committable: ledger.committable(), complete: ledger.complete, counts, invalidJson, bulkBytes };
  }
}

/** One operation of a bulk, as the writer of bulks sees it. */
export class SinkItem implements Sendable {
  readonly index: string;
  readonly deletes: boolean;
  private readonly batch: Batch;
  private readonly body: BulkBody<Routed>;
  private readonly item: BulkItem<Routed>;
  private readonly rows: ReadonlyMap<number, Row>;
  private readonly documents: DocumentWriter;

  constructor(batch: Batch, body: BulkBody<Routed>, item: BulkItem<Routed>, rows: ReadonlyMap<number, Row>, documents: DocumentWriter) {
    this.index = item.target.index;
    this.deletes = item.deletes;
    this.batch = batch;
    this.body = body;
    this.item = item;
    this.rows = rows;
    this.documents = documents;
  }

  bytes(): Buffer {
    return this.body.bytesOf([this.item]);
  }

  distrusted(): Sendable | undefined {
    const { item, batch, rows, documents } = this;
    if (item.jsonColumns === item.invalidJson) return undefined;
    const again = new BulkBody<Routed>(2 * (item.end - item.start));
    again.index(item.target, rows.get(item.target.position)!, documents, true);
    return new SinkItem(batch, again, again.items[0]!, rows, documents);
  }

  settle(settled: Settled): void {
    const { batch, item } = this;
    const { target } = item;
    if (settled.kind === 'dead-letter') batch.refuse(target.position, target.key, settled.cause, settled.detail);
    else batch.settle(target.position, settled.kind, settled.kind === 'applied' && item.invalidJson > 0);
  }
}
