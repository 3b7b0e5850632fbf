import type { Client } from '@elastic/elasticsearch';
import type { Connector } from '../../connector/definition.ts';
import { type ConsumedRecord, type DeadLetter, OPERATION_LETTERS, type Row, type TableName } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import type { RowKey } from '../../core/row-key.ts';
import { Batch, SinkItem } from './batch.ts';
import type { BatchResult, Routed } from './batch.ts';
import { BulkBody } from './bulk-body.ts';
import { BulkWriter } from './bulk-writer.ts';
import { coalesce } from './coalesce.ts';
import type { Coalesced } from './coalesce.ts';
import { DocumentWriter } from './document.ts';
import { indexOf } from './index-name.ts';
import { KnownIndices } from './known-indices.ts';
import { DEFAULT_PACE, Interrupted, Patience } from './patience.ts';
import type { Pace, Trouble } from './patience.ts';
import { Slots } from './slots.ts';
import { probeWrite } from './state-mirror.ts';
import { ensureTemplates } from './templates.ts';
import type { IndexTemplate } from './templates.ts';

/** How a Kafka record is read; handed in, since stages never import each other. */
export interface Decode {
  /** Throws a RangeError when the bytes are no key of this program. */
  key(key: Buffer): RowKey;
  /**
   * Throws a RangeError when the bytes are no row. An unknown schema is no such thing: it waits, and in the end throws
   * KAFKA_SCHEMA_UNKNOWN, which ends the sink.
   */
  row(table: TableName, value: Buffer): Row | Promise<Row>;
}

export interface SinkOptions {
  readonly client: Client;
  readonly prefix: string;
  readonly connectors: Readonly<Record<TableName, Connector>>;
  readonly decode: Decode;
  /**
   * Seen to again before a document goes to an index that this process does not know yet: people delete
   * `dify-*-template`, and what the next month would be made with stays for ever.
   */
  readonly templates?: readonly IndexTemplate[];
  /** Called before documents go to indices that this process has not written to yet; what it throws is tried again. */
  readonly beforeNew?: (indices: readonly string[]) => Promise<void>;
  /** Returns when the dead-letter topic has acknowledged them. */
  readonly park: (letters: readonly DeadLetter[]) => Promise<void>;
  /** The tenant's truth is Elasticsearch: nothing of it is written any more. */
  readonly isSwitched: (tenantId: string) => boolean;
  /** Each record that was not written for that reason. */
  readonly onSwitched?: (tenantId: string, record: ConsumedRecord) => void;
  /** `YYYY.MM`: this month of the tenant and all before it were dropped by retention. */
  readonly expiredThrough: (tenantId: string) => string | undefined;
  /** Bytes of search_text in a document; 0 turns it off. */
  readonly searchTextBytes: number;
  readonly maxBulkBytes: number;
  readonly onTrouble?: (trouble: Trouble) => void;
  readonly onRecovered?: () => void;
  readonly pace?: Pace;
}

export interface BatchContext {
  /** Of the last record or control marker of the batch: kafkajs' `batch.lastOffset()`. */
  readonly lastOffset: string;
  readonly heartbeat: () => Promise<void>;
  readonly signal: AbortSignal;
}

const MAX_BULK_ITEMS = 5_000;
/** Of all partitions: enough to keep Elasticsearch at work while others are made, few enough to bound the memory of their bodies. */
const BULKS_AT_ONCE = 3;
/** A backfill meets new indices all the time. */
const TEMPLATES_TRUST_MS = 10_000;
export const DEFAULT_SEARCH_TEXT_BYTES = 32 * 1024;

/** Writes batches of Kafka records into Elasticsearch and says what Kafka may forget. */
export class SinkWriter {
  private readonly options: SinkOptions;
  private readonly bulks: BulkWriter;
  private readonly indices: KnownIndices;
  private readonly documents = new Map<TableName, DocumentWriter>();
  private readonly slots = new Slots(BULKS_AT_ONCE);
  /** At most one for each slot; new memory for each bulk costs a tenth of the time of all the rest. */
  private readonly spareBodies: BulkBody<Routed>[] = [];
  private templatesSeenMs = 0;

  constructor(options: SinkOptions) {
    this.options = options;
    const { client, prefix, maxBulkBytes } = options;
    this.indices = new KnownIndices(client);
    this.bulks = new BulkWriter({ client, maxBulkBytes, probe: () => probeWrite(client, prefix), sighted: (index) => this.indices.sighted(index) });
    for (const connector of Object.values(options.connectors)) {
      this.documents.set(connector.table, new DocumentWriter(connector, { searchTextBytes: options.searchTextBytes }));
    }
  }

  /**
   * One batch of one partition, in the order of its offsets. To be called again for the same partition only after it
   * has returned: one bulk in flight per partition keeps the order that versions cannot (ties of one transaction).
   *
   * Returns when every record is settled, however long Elasticsearch is away, or soon after the signal. Throws ES_AUTH
   * and ES_RIGHTS, what `park` and `heartbeat` throw, and KAFKA_SCHEMA_UNKNOWN; nothing of the batch may be committed then.
   */
  async handleBatch(table: TableName, partition: number, records: readonly ConsumedRecord[], context: BatchContext): Promise<BatchResult> {
    const batch = new Batch(table, partition, records, context.lastOffset);
    const { onTrouble = ignore, onRecovered = ignore, pace = DEFAULT_PACE } = this.options;
    const patience = new Patience({ heartbeat: context.heartbeat, signal: context.signal, onTrouble, onRecovered, pace });
    try {
      const coalesced = coalesce(this.route(batch));
      for (const loser of coalesced.losers) batch.settle(loser.position, 'stale');
      await this.writeAll(batch, await this.withoutVoidDeletes(batch, coalesced, patience), patience, context);
      await this.park(batch);
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
    }
    return batch.result();
  }

  /** Settles what needs no document: unreadable, without an index, dropped by retention, of a switched tenant. */
  private route(batch: Batch): Routed[] {
    const { prefix, connectors, isSwitched, onSwitched = ignore, expiredThrough } = this.options;
    const connector = connectors[batch.table];
    const routed: Routed[] = [];
    for (const [position, record] of batch.records.entries()) {
      const key = readable(() => this.options.decode.key(record.key));
      if (key === undefined || record.headers.version === null) {
        batch.refuse(position, key ?? null, 'undecodable', key === undefined ? 'the key is not one of this program' : 'the header has no version');
        continue;
      }
      const found = indexOf(prefix, connector, key);
      if (typeof found === 'string') {
        batch.refuse(position, key, found, found === 'no-month' ? 'created_at has no month' : 'id or tenant_id is no uuid');
        continue;
      }
      const expired = expiredThrough(key.tenantId);
      if (isSwitched(key.tenantId)) {
        batch.settle(position, 'switched');
        onSwitched(key.tenantId, record);
      } else if (expired !== undefined && found.month <= expired) batch.settle(position, 'expired');
      else if (record.value === null && record.headers.op === OPERATION_LETTERS.moved) batch.settle(position, 'applied');
      else routed.push({ position, record, key, index: found.name, id: key.id, version: record.headers.version });
    }
    return routed;
  }

  /**
   * Leaves out deletes whose index is not there: they would create it. One that this batch itself is about to create
   * cannot hold their document either, since each document occurs once here. But a delete of a row that came in the same
   * batch is sent: the sink that had the partition before may have sent that row, in a bulk that is still making the index.
   */
  private async withoutVoidDeletes(batch: Batch, { winners, losers }: Coalesced<Routed>, patience: Patience): Promise<Routed[]> {
    const missing = await this.indices.missing(winners.filter(({ record }) => record.value === null).map(({ index }) => index), patience);
    const documentOf = ({ index, id }: Routed): string => `${index}/${id}`;
    const rows = new Set(losers.filter(({ index, record }) => record.value !== null && missing.has(index)).map(documentOf));
    return winners.filter((winner) => {
      const isVoid = winner.record.value === null && missing.has(winner.index) && !rows.has(documentOf(winner));
      if (isVoid) batch.settle(winner.position, 'applied');
      return !isVoid;
    });
  }

  private async writeAll(batch: Batch, targets: readonly Routed[], patience: Patience, { signal, heartbeat }: BatchContext): Promise<void> {
    if (targets.length === 0) return;
    await this.seeToTemplates(targets, patience);
    await this.seeToNew(targets, patience);
    for (let from = 0; from < targets.length; ) {
      from = await this.slots.hold(signal, async () => {
        // It may have been minutes: the partition may be somebody else's by now.
        await heartbeat();
        return this.writeBulk(batch, targets, from, patience);
      });
    }
  }

  /** One bulk of the targets from `from` on; returns where the next one begins. */
  private async writeBulk(batch: Batch, targets: readonly Routed[], from: number, patience: Patience): Promise<number> {
    const documents = this.documents.get(batch.table)!;
    const rows = new Map<number, Row>();
    const body = this.spareBodies.pop() ?? new BulkBody<Routed>(firstCapacity(targets, this.bulks.bulkBytes));
    let at = from;
    for (; at < targets.length && body.length < this.bulks.bulkBytes && body.items.length < MAX_BULK_ITEMS; at++) {
      const target = targets[at]!;
      if (target.record.value === null) body.delete(target);
      else {
        const row = this.rowOf(batch, target);
        const whole = row instanceof Promise ? await row : row;
        if (!whole) continue;
        rows.set(target.position, whole);
        body.index(target, whole, documents);
      }
    }
    await this.bulks.write(body.items.map((item) => new SinkItem(batch, body, item, rows, documents)), body.bytesOf(body.items), patience);
    batch.bulkBytes += body.length;
    body.clear();
    // Not after an error: a request that was given up may still be reading it. Not one that a huge row has stretched.
    if (body.capacity <= 2 * this.options.maxBulkBytes) this.spareBodies.push(body);
    return at;
  }

  private async seeToTemplates(targets: readonly Routed[], patience: Patience): Promise<void> {
    const { client, templates } = this.options;
    if (!templates || Date.now() - this.templatesSeenMs < TEMPLATES_TRUST_MS || targets.every(({ index }) => this.indices.has(index))) return;
    await patience.insist(() => ensureTemplates(client, templates));
    this.templatesSeenMs = Date.now();
  }

  private async seeToNew(targets: readonly Routed[], patience: Patience): Promise<void> {
    const { beforeNew } = this.options;
    if (!beforeNew) return;
    const unknown = new Set(targets.filter(({ index }) => !this.indices.has(index)).map(({ index }) => index));
    if (unknown.size > 0) await patience.insist(() => beforeNew([...unknown]));
  }

  /** A promise only where the schema is not known yet: a turn of the event loop for each row adds up. */
  private rowOf(batch: Batch, { position, record, key }: Routed): Row | undefined | Promise<Row | undefined> {
    const refused = (error: unknown): undefined => {
      if (!(error instanceof RangeError)) throw error;
      batch.refuse(position, key, 'undecodable', 'the value is no row of this program');
    };
    try {
      const row = this.options.decode.row(batch.table, record.value!);
      return row instanceof Promise ? row.catch(refused) : row;
    } catch (error) {
      return refused(error);
    }
  }

  private async park(batch: Batch): Promise<void> {
    const { letters } = batch;
    if (letters.length === 0) return;
    await this.options.park(letters.map(({ letter }) => letter));
    crashPoint('sink.dead-letter-sent');
    for (const { position } of letters) batch.settle(position, 'dead-letter');
  }
}

/** Room for the usual document: its row, the names of its fields, search_text. A guess; the body grows if it must. */
function firstCapacity(targets: readonly Routed[], bulkBytes: number): number {
  const bytes = targets.reduce((sum, { record }) => sum + 1_024 + 2 * (record.value?.length ?? 0), 0);
  return Math.min(bytes, bulkBytes + 65_536);
}

/** A value of foreign bytes; undefined when they are not ours. Errors of the program itself pass through. */
function readable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof RangeError && !(error instanceof DifyEsError)) return undefined;
    throw error;
  }
}

function ignore(): void {}
