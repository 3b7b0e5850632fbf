import type { Client } from '@elastic/elasticsearch';
import { randomUUID } from 'node:crypto';
import { afterAll } from 'vitest';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import type { ConsumedRecord, DeadLetter, RowShape, TableName } from '../../../src/core/contracts.ts';
import type { RowKey } from '../../../src/core/row-key.ts';
import { FIRST_OWN_VERSION } from '../../../src/core/row-version.ts';
import type { RowVersion } from '../../../src/core/row-version.ts';
import { decodeKey, encodeKey } from '../../../src/pipeline/encode/key-codec.ts';
import { decodeRow, encodeRow } from '../../../src/pipeline/encode/row-codec.ts';
import { makeClient } from '../../../src/pipeline/sink/elastic-client.ts';
import { indexName } from '../../../src/pipeline/sink/index-name.ts';
import type { Trouble } from '../../../src/pipeline/sink/patience.ts';
import { SinkWriter } from '../../../src/pipeline/sink/sink.ts';
import type { BatchResult } from '../../../src/pipeline/sink/batch.ts';
import type { BatchContext, SinkOptions } from '../../../src/pipeline/sink/sink.ts';
import { ensureTemplates, templateOf } from '../../../src/pipeline/sink/templates.ts';
import type { TemplateSettings } from '../../../src/pipeline/sink/templates.ts';
import { cellsOf } from '../../support/cells.ts';
import { TENANT } from './documents-of.ts';

export const MONTH = '2025.10';
const CREATED = '2025-10-10 08:25:41.123456';

export function clientOf(url: string, timeoutMs = 30_000): Client {
  const client = makeClient({ nodes: [url], auth: null, tls: { ca: null, rejectUnauthorized: true }, timeoutMs, maxRetries: 0 });
  afterAll(() => client.close());
  return client;
}

export const templateSettings = (prefix: string): TemplateSettings => ({ prefix, shards: 1, replicas: 0, refreshInterval: '30s', totalFieldsLimit: 2000, searchText: true });

export async function putTemplates(client: Client, prefix: string): Promise<void> {
  await ensureTemplates(client, Object.values(CONNECTORS).map((connector) => templateOf(connector, templateSettings(prefix))));
}

type Values = Readonly<Record<string, string | null>>;

/** Records as a consumer hands them out, of one partition, with ascending offsets. */
export class Log {
  readonly table: TableName;
  private offset = 0;
  private readonly shapes = new Map<string, RowShape>();

  constructor(table: TableName = 'workflow_runs') {
    this.table = table;
  }

  readonly decode: SinkOptions['decode'] = {
    key: decodeKey,
    row: (table, value) => {
      const shape = this.shapes.get(value.subarray(2, 10).toString('hex'));
      if (!shape) throw new RangeError('no such schema');
      return { shape: { ...shape, table }, cells: decodeRow(value, shape.columns.length) };
    },
  };

  row(id: string, version: number | bigint, values: Values = {}, key: Partial<RowKey> = {}): ConsumedRecord {
    const whole = { tenantId: TENANT, createdAt: CREATED, id, ...key };
    const row: Values = { id, tenant_id: whole.tenantId, created_at: whole.createdAt, ...values };
    const columns = Object.keys(row);
    const fingerprint = Buffer.alloc(8);
    fingerprint.writeUInt32LE(columns.join().length);
    fingerprint.write(columns.map((column) => column.at(-1)).join('').slice(-4), 4, 'latin1');
    this.shapes.set(fingerprint.toString('hex'), { table: this.table, columns });
    return this.record(whole, version, encodeRow(cellsOf(Object.values(row).map((value) => (value === null ? null : Buffer.from(value)))), fingerprint));
  }

  tombstone(id: string, version: number | bigint, key: Partial<RowKey> = {}): ConsumedRecord {
    return this.record({ tenantId: TENANT, createdAt: CREATED, id, ...key }, version, null);
  }

  /** What the reader leaves under the old key of a row that moved within its document. */
  moved(id: string, version: number | bigint, key: Partial<RowKey> = {}): ConsumedRecord {
    const record = this.tombstone(id, version, key);
    return { ...record, headers: { ...record.headers, op: 'm' } };
  }

  record(key: RowKey | Buffer, version: number | bigint | null, value: Buffer | null): ConsumedRecord {
    const bytes = Buffer.isBuffer(key) ? key : encodeKey(key);
    const headers = { version: version === null ? null : versionOf(version), op: 'u', lsn: '0/1', timeMs: 0 };
    return { table: this.table, partition: 3, offset: String(this.offset++), key: bytes, value, headers };
  }
}

/** Small numbers stand for versions of this program. */
export function versionOf(version: number | bigint): RowVersion {
  return (BigInt(version) < 1_000_000n ? FIRST_OWN_VERSION + BigInt(version) : BigInt(version)) as RowVersion;
}

export interface Harness {
  readonly sink: SinkWriter;
  readonly client: Client;
  readonly parked: DeadLetter[];
  readonly troubles: Trouble[];
  readonly recoveries: number[];
  /** One batch; its last offset is that of its last record. */
  handle(log: Log, records: readonly ConsumedRecord[], context?: Partial<BatchContext>): Promise<BatchResult>;
  /** _source and version of a document, as text; undefined when there is none. */
  document(log: Log, id: string, month?: string, tenantId?: string): Promise<{ source: Record<string, unknown>; text: string } | undefined>;
}

export function harness(client: Client, log: Log, prefix: string, options: Partial<SinkOptions> = {}, reader: Client = client): Harness {
  const parked: DeadLetter[] = [];
  const troubles: Trouble[] = [];
  const recoveries: number[] = [];
  const sink = new SinkWriter({
    client, prefix, connectors: CONNECTORS, decode: log.decode, park: (letters) => Promise.resolve(void parked.push(...letters)), isSwitched: () => false, expiredThrough: () => undefined,
    searchTextBytes: 32_768, maxBulkBytes: 8 << 20, pace: { firstMs: 5, longestMs: 50 }, onTrouble: (trouble) => troubles.push(trouble), onRecovered: () => recoveries.push(troubles.length), ...options,
  });
  return {
    sink, client, parked, troubles, recoveries,
    handle: (from, records, context = {}) => sink.handleBatch(from.table, 3, records, { lastOffset: records.at(-1)?.offset ?? '0', heartbeat: () => Promise.resolve(), signal: new AbortController().signal, ...context }),
    async document(from, id, month = MONTH, tenantId = TENANT) {
      const index = indexName(prefix, CONNECTORS[from.table], tenantId, month);
      const text = await reader.transport.request<unknown>({ method: 'GET', path: `/${index}/_source/${id}` }, { ignore: [404], maxRetries: 3 });
      const source = text as Record<string, unknown>;
      return 'error' in source && !('id' in source) ? undefined : { source, text: JSON.stringify(text) };
    },
  };
}

export const newId = (): string => randomUUID();
