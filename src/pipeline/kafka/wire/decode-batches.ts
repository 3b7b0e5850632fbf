import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { AT, CODEC, CODEC_MASK, CONTROL, LOG_APPEND_TIME, LOG_OVERHEAD, MAGIC, TRANSACTIONAL } from './batch-format.ts';
import { type Cursor, readVarint } from './varint.ts';

/** A message in the form that kafkajs works with inside. Key, value and headers are views of the fetched bytes. */
export interface DecodedMessage {
  readonly magicByte: number;
  readonly attributes: number;
  readonly timestamp: string;
  readonly offset: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Record<string, Buffer>;
  readonly isControlRecord: boolean;
  readonly batchContext: { readonly producerId: string; readonly inTransaction: boolean; readonly isControlBatch: boolean };
}

const NO_HEADERS: Record<string, Buffer> = {};

/**
 * The messages of one partition in an answer to Fetch.
 *
 * Stops behind the first batch that brings the unpacked bytes above `budget`; the consumer fetches the rest again, as
 * it does with a batch that was cut. Without that, 1 MB of repetitive rows may unpack to 100 MB, and the memory of the
 * process would depend on what people store (P7).
 *
 * Where compaction took records away, or a whole batch's, a control record stands for the batch's last offset: kafkajs
 * takes its position from messages, and would otherwise ask for an emptied batch at the end of a log for ever.
 */
export function decodeBatches(bytes: Buffer, budget: number): DecodedMessage[] {
  const messages: DecodedMessage[] = [];
  let at = 0;
  let unpacked = 0;
  while (at + AT.records <= bytes.length && unpacked <= budget) {
    const end = at + LOG_OVERHEAD + bytes.readInt32BE(at + AT.length);
    if (end > bytes.length) break; // the broker cuts the last batch at the size that was asked for
    unpacked += decodeBatch(bytes.subarray(at, end), messages);
    at = end;
  }
  return messages;
}

/** Appends the batch's messages and returns the bytes that its records take unpacked. */
function decodeBatch(batch: Buffer, messages: DecodedMessage[]): number {
  if (batch[AT.magic] !== MAGIC) throw new RangeError(`Kafka batch of magic ${batch[AT.magic]}: message formats before 0.11 are not read`);
  const attributes = batch.readInt16BE(AT.attributes);
  const baseOffset = batch.readBigInt64BE(AT.baseOffset);
  const lastOffset = baseOffset + BigInt(batch.readInt32BE(AT.lastOffsetDelta));
  const context = {
    producerId: batch.readBigInt64BE(AT.producerId).toString(),
    inTransaction: (attributes & TRANSACTIONAL) !== 0,
    isControlBatch: (attributes & CONTROL) !== 0,
  };
  const appendTime = (attributes & LOG_APPEND_TIME) !== 0;
  const timestamp = batch.readBigInt64BE(appendTime ? AT.maxTimestamp : AT.baseTimestamp);
  const records = unpack(batch.subarray(AT.records), attributes & CODEC_MASK);
  const count = batch.readInt32BE(AT.count);
  const cursor = { at: 0 };
  let last = -1n;
  for (let index = 0; index < count; index++) {
    const message = decodeRecord(records, cursor, baseOffset, timestamp, appendTime, context);
    messages.push(message);
    if (index === count - 1) last = BigInt(message.offset);
  }
  if (last < lastOffset) messages.push(gap(lastOffset, timestamp, context));
  return records.length;
}

function unpack(records: Buffer, codec: number): Buffer {
  if (codec === CODEC.none || records.length === 0) return records;
  // Rows pack to about a quarter; with the default of 16 KiB the joining of chunks costs as much as the unpacking.
  const chunkSize = Math.min(Math.max(records.length * 5, 4096), 2 << 20);
  if (codec === CODEC.zstd) return zstdDecompressSync(records, { chunkSize });
  if (codec === CODEC.gzip) return gunzipSync(records, { chunkSize });
  throw new RangeError(`Kafka batch of codec ${codec}: set compression.type=producer on the topic`);
}

function decodeRecord(bytes: Buffer, cursor: Cursor, baseOffset: bigint, baseTimestamp: bigint, appendTime: boolean, context: DecodedMessage['batchContext']): DecodedMessage {
  const size = readVarint(bytes, cursor);
  const end = cursor.at + size;
  if (size < 0 || end > bytes.length) throw new RangeError('Kafka record: it ends behind its batch');
  const attributes = bytes[cursor.at++]!;
  const timestampDelta = readVarint(bytes, cursor);
  const offset = baseOffset + BigInt(readVarint(bytes, cursor));
  const key = readBytes(bytes, cursor);
  const value = readBytes(bytes, cursor);
  const headers = readHeaders(bytes, cursor);
  cursor.at = end;
  return {
    magicByte: MAGIC,
    attributes,
    timestamp: (appendTime ? baseTimestamp : baseTimestamp + BigInt(timestampDelta)).toString(),
    offset: offset.toString(),
    key,
    value,
    headers,
    isControlRecord: context.isControlBatch,
    batchContext: context,
  };
}

function readBytes(bytes: Buffer, cursor: Cursor): Buffer | null {
  const length = readVarint(bytes, cursor);
  if (length < 0) return null;
  const begin = cursor.at;
  cursor.at += length;
  if (cursor.at > bytes.length) throw new RangeError('Kafka record: a value ends behind its batch');
  return bytes.subarray(begin, cursor.at);
}

function readHeaders(bytes: Buffer, cursor: Cursor): Record<string, Buffer> {
  const count = readVarint(bytes, cursor);
  if (count <= 0) return NO_HEADERS;
  const headers: Record<string, Buffer> = Object.create(null);
  for (let index = 0; index < count; index++) {
    const name = readBytes(bytes, cursor)?.toString('latin1') ?? '';
    headers[name] ??= readBytes(bytes, cursor) ?? Buffer.alloc(0);
  }
  return headers;
}

function gap(offset: bigint, timestamp: bigint, context: DecodedMessage['batchContext']): DecodedMessage {
  return { magicByte: MAGIC, attributes: 0, timestamp: timestamp.toString(), offset: offset.toString(), key: null, value: null, headers: NO_HEADERS, isControlRecord: true, batchContext: context };
}
