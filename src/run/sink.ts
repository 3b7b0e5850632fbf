import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { CONNECTORS } from '../connector/registry.ts';
import { DifyEsError } from '../core/errors.ts';
import { parseLsn } from '../core/lsn.ts';
import { stateKeys, type ControlLog, type RetentionRecord, type SwitchedRecord } from '../core/state.ts';
import type { ConsumedRecord, TableName } from '../core/contracts.ts';
import { createAvroEncoding } from '../pipeline/encode/avro-encoding.ts';
import { WRITES } from '../pipeline/encode/headers.ts';
import { decodeKey } from '../pipeline/encode/key-codec.ts';
import { decodeRow, fingerprintOf } from '../pipeline/encode/row-codec.ts';
import { createSchemaBook, type SchemaBook } from '../pipeline/encode/schema-book.ts';
import type { RowSchema } from '../pipeline/encode/row-schema.ts';
import { createRecordConsumer, type Delivery, type DeliveryControl } from '../pipeline/kafka/consumer.ts';
import { createLetterWriter } from '../pipeline/kafka/dead-letters.ts';
import { crashPoint } from '../core/crash-point.ts';
import type { Trouble } from '../pipeline/sink/patience.ts';
import type { BatchResult } from '../pipeline/sink/batch.ts';
import { DEFAULT_SEARCH_TEXT_BYTES, SinkWriter, type Decode } from '../pipeline/sink/sink.ts';
import { ensureTemplates, type TemplateSettings } from '../pipeline/sink/templates.ts';
import type { Platform } from './platform.ts';
import { startRelaxing } from './relaxing.ts';
import { templatesInUse } from './templates.ts';

export interface SinkRun {
  /** Rejects with the error that ends the process; otherwise it never settles. */
  readonly failed: Promise<never>;
  /** Ends within 10 s; what is not settled by then comes again. */
  stop(): Promise<void>;
}

export interface SinkProgress {
  readonly table: TableName;
  readonly partition: number;
  readonly result: BatchResult;
  readonly tookMs: number;
  /** Commit time of the newest record of the batch, ms; null for a batch of markers. */
  readonly newestMs: number | null;
}

/** What the verbs add to a member of the group. `overSwitched`: a forced replay also writes what tenants had before they were switched. */
export interface SinkParts {
  readonly overSwitched?: boolean;
  readonly onTrouble?: (trouble: Trouble) => void;
  /** The first success after trouble. */
  readonly onRecovered?: () => void;
  /** PostgreSQL was written for a tenant after its switch: the row is in neither log page. */
  readonly onLateWrite?: () => void;
}

export function templateSettings({ elasticsearch }: Config): TemplateSettings {
  const { indexPrefix: prefix, shards, replicas, refreshInterval, totalFieldsLimit, searchText } = elasticsearch;
  return { prefix, shards, replicas, refreshInterval, totalFieldsLimit, searchText };
}

/**
 * A member of the consumer group, wired: Kafka → bulks → offsets. Sees to the templates first: people delete
 * `dify-*-template`, and an index made without them has the wrong mapping for ever.
 */
export async function startSink(config: Config, platform: Platform, log: Logger, onProgress: (progress: SinkProgress) => void = () => {}, { overSwitched = false, onTrouble, onRecovered, onLateWrite }: SinkParts = {}): Promise<SinkRun> {
  const { kafka, names, client, state } = platform;
  const templates = await templatesInUse(client, templateSettings(config));
  const put = await ensureTemplates(client, templates);
  if (put.length > 0) log.info({ templates: put }, 'templates put');

  const stopping = new AbortController();
  const letters = createLetterWriter(kafka, names);
  const relaxing = startRelaxing(config, client, state.control, log);
  const writer = new SinkWriter({
    client, prefix: config.elasticsearch.indexPrefix, connectors: CONNECTORS, templates,
    decode: decoder(createSchemaBook(state.control)),
    beforeNew: (indices) => relaxing.beforeNew(indices),
    park: (parked) => letters.park(parked),
    ...tenantRules(state.control),
    onSwitched: lateWrites(state.control, log, onLateWrite),
    ...(overSwitched ? { isSwitched: () => false } : {}),
    searchTextBytes: config.elasticsearch.searchText ? DEFAULT_SEARCH_TEXT_BYTES : 0,
    maxBulkBytes: config.elasticsearch.bulkBytes,
    onTrouble: (trouble) => {
      log.warn({ ...trouble }, 'waiting for Elasticsearch');
      onTrouble?.(trouble);
    },
    onRecovered: () => {
      log.info('Elasticsearch takes documents again');
      onRecovered?.();
    },
  });
  const consumer = createRecordConsumer({
    kafka, names, groupId: config.kafka.group, parseHeaders: createAvroEncoding().parseHeaders, logger: log, sessionTimeoutMs: config.kafka.sessionTimeoutMs,
  });

  const handle = async ({ table, partition, records, nextOffset }: Delivery, control: DeliveryControl): Promise<void> => {
    const began = performance.now();
    const heartbeat = async (): Promise<void> => {
      // somebody else may have the partition: what we write is harmless by its version, but nothing may be committed
      if (control.isStale()) throw new DifyEsError('KAFKA_UNREACHABLE', 'the partition may belong to another member');
    };
    const result = await writer.handleBatch(table, partition, records, { lastOffset: (BigInt(nextOffset) - 1n).toString(), heartbeat, signal: stopping.signal });
    if (result.committable !== undefined && !control.isStale()) {
      await consumer.commit(table, partition, result.committable);
      if (records.length > 0) crashPoint('sink.offset-committed');
    }
    if (!result.complete) throw new DifyEsError('KAFKA_UNREACHABLE', 'stopped before the batch was settled; it comes again');
    onProgress({ table, partition, result, tookMs: performance.now() - began, newestMs: records.at(-1)?.headers.timeMs ?? null });
  };
  try {
    await consumer.start(handle);
  } catch (error) {
    await relaxing.stop();
    await letters.close();
    throw error;
  }
  return {
    failed: consumer.failed,
    async stop() {
      stopping.abort();
      await Promise.all([consumer.stop(), relaxing.stop()]);
      await letters.close();
    },
  };
}

/** Reads what the publishers wrote; a schema that is not known yet is waited for. */
export function decoder(book: SchemaBook): Decode {
  const shaped = (table: TableName, value: Buffer, { shape }: RowSchema) => {
    if (shape.table !== table) throw new RangeError(`a row of ${shape.table} in the topic of ${table}`);
    return { shape, cells: decodeRow(value, shape.columns.length) };
  };
  return {
    key: decodeKey,
    row(table, value) {
      const hex = fingerprintOf(value);
      const schema = book.get(hex);
      return schema ? shaped(table, value, schema) : book.wait(hex).then((late) => shaped(table, value, late));
    },
  };
}

/** Asked for every record, so kept as sets and not looked up in the control topic's keys. */
function tenantRules(control: ControlLog): { isSwitched: (tenantId: string) => boolean; expiredThrough: (tenantId: string) => string | undefined } {
  const switched = new Set<string>();
  const expired = new Map<string, string>();
  const read = (): void => {
    switched.clear();
    expired.clear();
    for (const [key] of control.entries(stateKeys.switched(''))) switched.add(key.slice(stateKeys.switched('').length));
    for (const [, record] of control.entries<RetentionRecord>(stateKeys.retention(''))) expired.set(record.tenantId, record.throughMonth);
  };
  read();
  control.onChange((key) => {
    if (key.startsWith('tenant/')) read();
  });
  return { isSwitched: (tenantId) => switched.has(tenantId), expiredThrough: (tenantId) => expired.get(tenantId) };
}

/**
 * Tells the rows that the application wrote to PostgreSQL after the switch of their tenant from what a replay or a
 * backfill brings up again: a process of it still has its old settings, and nobody will see what it writes.
 */
function lateWrites(control: ControlLog, log: Logger, onLateWrite: () => void = () => {}): (tenantId: string, record: ConsumedRecord) => void {
  const said = new Set<string>();
  return (tenantId, { headers: { op, lsn } }) => {
    const switched = control.get<SwitchedRecord>(stateKeys.switched(tenantId));
    if (!switched || !WRITES.has(op) || parseLsn(lsn) <= parseLsn(switched.lsn)) return;
    onLateWrite();
    const key = `${tenantId}/${switched.at}`;
    if (said.has(key)) return;
    said.add(key);
    log.error({ tenantId, lsn, switchedAt: switched.at }, 'PostgreSQL was written for a tenant whose truth is Elasticsearch: a process of Dify has its old settings; restart it, then bring its rows over with replay --from-time (the switch) --run --force');
  };
}
