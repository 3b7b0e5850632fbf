import type { Config } from '../../config/config.ts';
import type { Client } from '@elastic/elasticsearch';
import { CONNECTORS } from '../../connector/registry.ts';
import type { TableName } from '../../core/contracts.ts';
import { partitionOf, type RowKey } from '../../core/row-key.ts';
import { connect } from '../../pipeline/capture/pg-connection.ts';
import { parseHeaders } from '../../pipeline/encode/headers.ts';
import { decodeKey } from '../../pipeline/encode/key-codec.ts';
import { openDeadLetters } from '../../pipeline/kafka/dead-letters.ts';
import { findRecords } from '../../pipeline/kafka/find-records.ts';
import { openGroupLag, startOf } from '../../pipeline/kafka/group-lag.ts';
import { createPartitionReader } from '../../pipeline/kafka/partition-reader.ts';
import type { DecodedMessage } from '../../pipeline/kafka/wire/decode-batches.ts';
import { esError } from '../../pipeline/sink/elastic-errors.ts';
import { indexOf, indexPattern, parseIndexName } from '../../pipeline/sink/index-name.ts';
import { pgTarget } from '../../run/connections.ts';
import type { Platform } from '../../run/platform.ts';
import { Documents } from '../validate/documents.ts';
import { Source } from '../validate/source.ts';
import { readVersion, type Trace, type TracedDocument, type TracedLetter, type TracedRecord, type TracedRow } from './trace.ts';

export interface TraceRequest {
  readonly table: TableName;
  readonly id: string;
  /** So many offsets at the partition's end are searched; null: all. */
  readonly last: number | null;
}

/** Records kept of a row that was written again and again. */
const SHOWN = 50;

/** One row's way. Reads only; the partition is known from the id, and read in slices. `onProgress`: offsets read of how many. */
export async function runTrace(config: Config, platform: Platform, request: TraceRequest, signal: AbortSignal, onProgress: (done: number, total: number) => void): Promise<Trace> {
  const row = await traceRow(config, request);
  const found = await traceRecords(config, platform, request, signal, onProgress);
  const letters = await traceLetters(platform, request);
  const keys = [...(row ? [{ tenantId: row.tenantId, createdAt: row.createdAt, id: request.id }] : []), ...found.keys, ...letters.keys];
  return { table: request.table, id: request.id, row, ...found.trace, documents: await traceDocuments(config, platform, request, keys, signal), letters: letters.lines };
}

async function traceRow(config: Config, { table, id }: TraceRequest): Promise<TracedRow | null> {
  const db = await connect(pgTarget(config), { role: 'trace', statementTimeoutMs: 30_000 });
  try {
    const source = new Source({ scanning: db, lookup: db }, config.postgres.schema);
    const open = await source.open(table);
    if (!open) return null;
    const committed = `CASE WHEN current_setting('track_commit_timestamp')::boolean THEN pg_xact_commit_timestamp(xmin)::text END`;
    const [found] = await source.query(`SELECT tenant_id::text, created_at::text, ctid::text, xmin::text, ${committed} FROM ONLY ${open.source.name} WHERE id = $1::${open.source.idType}`, [id]);
    if (!found) return null;
    const [tenantId, createdAt, ctid, xmin, committedAt] = found as [string, string, string, string, string | null];
    return { tenantId, createdAt, ctid, xmin, committedAt };
  } finally {
    await db.end().catch(() => undefined);
  }
}

interface FoundRecords {
  readonly trace: Pick<Trace, 'topic' | 'partition' | 'searched' | 'records' | 'recordsFound'>;
  readonly keys: readonly RowKey[];
}

async function traceRecords(config: Config, { kafka, names }: Platform, { table, id, last }: TraceRequest, signal: AbortSignal, onProgress: (done: number, total: number) => void): Promise<FoundRecords> {
  const topic = names.table[table];
  const reader = createPartitionReader(kafka);
  const lag = await openGroupLag(kafka, names, config.kafka.group, [table]);
  try {
    await reader.connect([topic]);
    const partition = partitionOf(id, reader.partitions(topic).length);
    const beginning = (await reader.offsets(topic, 'beginning')).get(partition) ?? 0n;
    const position = (await lag.lag()).find((one) => one.partition === partition);
    const to = position?.end ?? beginning;
    const sinksAt = startOf(position?.committed ?? null, beginning, to);
    const from = last === null || to - BigInt(last) < beginning ? beginning : to - BigInt(last);
    const wanted = Buffer.from(id);
    const keys = new Map<string, RowKey>();
    const records: TracedRecord[] = [];
    let recordsFound = 0;
    const onPosition = (at: bigint): void => {
      signal.throwIfAborted();
      onProgress(Number(at - from), Number(to - from));
    };
    for await (const message of findRecords(reader, { topic, partition, from, to }, (key) => key.includes(wanted), onPosition)) {
      const record = tracedRecord(message, id, sinksAt);
      if (!record) continue;
      recordsFound++;
      keys.set(`${record.tenantId}/${record.createdAt}`, { tenantId: record.tenantId, createdAt: record.createdAt, id });
      records.push(record);
      if (records.length > SHOWN) records.shift();
    }
    return { trace: { topic, partition, searched: { from: String(from), to: String(to), sinksAt: String(sinksAt) }, records, recordsFound }, keys: [...keys.values()] };
  } finally {
    await Promise.allSettled([reader.close(), lag.close()]);
  }
}

/** Undefined for a record of another row, or whose key is none of this program. */
function tracedRecord(message: DecodedMessage, id: string, sinksAt: bigint): TracedRecord | undefined {
  let key: RowKey;
  try {
    key = decodeKey(message.key!);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
  if (key.id !== id) return undefined;
  const { version, op, lsn, timeMs } = parseHeaders(message.headers);
  return {
    offset: message.offset, tenantId: key.tenantId, createdAt: key.createdAt, op, tombstone: message.value === null, bytes: message.value?.length ?? 0,
    version: version === null ? null : String(version), epoch: version === null ? null : readVersion(version).epoch, lsn, time: new Date(timeMs).toISOString(),
    settled: BigInt(message.offset) < sinksAt,
  };
}

async function traceLetters({ kafka, names, state }: Platform, { table, id }: TraceRequest): Promise<{ lines: readonly TracedLetter[]; keys: readonly RowKey[] }> {
  const letters = await openDeadLetters(kafka, names, state.control);
  try {
    const lines: TracedLetter[] = [];
    const keys: RowKey[] = [];
    for await (const slice of letters.letters()) {
      for (const letter of slice) {
        if (letter.table !== table || letter.key?.id !== id) continue;
        const { id: name, state: now, cause, version, at } = letter;
        lines.push({ id: name, state: now, cause, version: version === null ? null : String(version), at });
        if (lines.length > SHOWN) lines.shift();
        keys.push(letter.key);
      }
    }
    return { lines, keys };
  } finally {
    await letters.close();
  }
}

/** By name, which sees what no refresh has made visible yet; and by a search, for an index that no key tells of. */
async function traceDocuments(config: Config, { client }: Platform, { table, id }: TraceRequest, keys: readonly RowKey[], signal: AbortSignal): Promise<TracedDocument[]> {
  const prefix = config.elasticsearch.indexPrefix;
  const names = new Set(await indicesHolding(client, prefix, table, id));
  for (const key of keys) {
    const index = indexOf(prefix, CONNECTORS[table], key);
    if (typeof index !== 'string') names.add(index.name);
  }
  const found = await new Documents(client, prefix, signal).mget([...names].sort().map((index) => ({ index, id, field: 'id' })));
  const documents: TracedDocument[] = [];
  for (const document of found) {
    if (document) documents.push({ index: document.index, version: String(document.version), ...readVersion(document.version), seqNo: await seqNoOf(client, document.index, id) });
  }
  return documents;
}

async function indicesHolding(client: Client, prefix: string, table: TableName, id: string): Promise<string[]> {
  interface Answer { hits?: { hits?: { _index: string }[] } }
  const path = `/${indexPattern(prefix, CONNECTORS[table])}/_search`;
  const querystring = { filter_path: 'hits.hits._index', ignore_unavailable: true, allow_no_indices: true };
  const answer = await call(() => client.transport.request<Answer>({ method: 'POST', path, querystring, body: { size: 20, _source: false, query: { ids: { values: [id] } } } }));
  return (answer.hits?.hits ?? []).map(({ _index }) => _index).filter((name) => parseIndexName(prefix, [CONNECTORS[table]], name));
}

async function seqNoOf(client: Client, index: string, id: string): Promise<number> {
  const answer = await call(() => client.transport.request<{ _seq_no?: number }>({ method: 'GET', path: `/${index}/_doc/${id}`, querystring: { _source: false, filter_path: '_seq_no' } }, { ignore: [404] }));
  return answer._seq_no ?? -1;
}

async function call<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    throw esError(error);
  }
}
