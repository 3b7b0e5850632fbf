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
  readonly batchContext: {
    readonly producerId: string;
    readonly inTransaction: boolean;
    readonly isControlBatch: boolean;
    /** What the views of the batch's records lie in, where it was unpacked for them alone. */
    readonly memory?: Buffer;
  };
}

/** Of a zstd frame: magic 4, descriptor 1, window 1, dictionary id 4, content size 8 bytes. */
const MAX_FRAME_HEADER = 18;

const NO_HEADERS: Record<string, Buffer> = {};

/** The headers last read, and where their bytes are: those of one transaction have the same, and one object serves all. */
interface LastHeaders {
  start: number;
  end: number;
  headers: Record<string, Buffer>;
}

/**
 * The messages of one partition in an answer to Fetch.
 *
 * Stops behind the first batch that brings the unpacked bytes above `budget`; the consumer fetches the rest again, as
 * it does with a batch that was cut. Without that, 1 MB of repetitive rows may unpack to 100 MB, and the memory of the
 * process would depend on what people store.
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
  // Exact up to 2^53 records in a partition.
  const baseOffset = Number(batch.readBigInt64BE(AT.baseOffset));
  const lastOffset = baseOffset + batch.readInt32BE(AT.lastOffsetDelta);
  const packed = batch.subarray(AT.records);
  const records = unpack(packed, attributes & CODEC_MASK);
  const context = {
    producerId: batch.readBigInt64BE(AT.producerId).toString(),
    inTransaction: (attributes & TRANSACTIONAL) !== 0,
    isControlBatch: (attributes & CONTROL) !== 0,
    ...(records === packed ? {} : { memory: records }),
  };
  const appendTime = (attributes & LOG_APPEND_TIME) !== 0;
  const timestamp = Number(batch.readBigInt64BE(appendTime ? AT.maxTimestamp : AT.baseTimestamp));
  const stamp = String(timestamp);
  const count = batch.readInt32BE(AT.count);
  const cursor = { at: 0 };
  const last: LastHeaders = { start: 0, end: 0, headers: NO_HEADERS };
  let delta = -1;
  for (let index = 0; index < count; index++) {
    const size = readVarint(records, cursor);
    const end = cursor.at + size;
    if (size < 0 || end > records.length) throw new RangeError('Kafka record: it ends behind its batch');
    const recordAttributes = records[cursor.at++]!;
    const timestampDelta = readVarint(records, cursor);
    delta = readVarint(records, cursor);
    messages.push({
      magicByte: MAGIC,
      attributes: recordAttributes,
      timestamp: appendTime || timestampDelta === 0 ? stamp : String(timestamp + timestampDelta),
      offset: String(baseOffset + delta),
      key: readBytes(records, cursor),
      value: readBytes(records, cursor),
      headers: readHeaders(records, cursor, end, last),
      isControlRecord: context.isControlBatch,
      batchContext: context,
    });
    cursor.at = end;
  }
  if (baseOffset + delta < lastOffset) messages.push(gap(lastOffset, stamp, context));
  return records.length;
}

function unpack(records: Buffer, codec: number): Buffer {
  if (codec === CODEC.none || records.length === 0) return records;
  if (codec === CODEC.zstd) return zstdDecompressSync(records, { chunkSize: chunkFor(zstdContentSize(records) ?? records.length * 5) });
  if (codec === CODEC.gzip) return gunzipSync(records, { chunkSize: chunkFor(records.length * 5) });
  throw new RangeError(`Kafka batch of codec ${codec}: set compression.type=producer on the topic`);
}

/**
 * node:zlib unpacks into chunks of this size and joins them, which with its 16 KiB costs as much as the unpacking; one
 * that is exactly filled makes it begin another.
 */
function chunkFor(unpackedBytes: number): number {
  return Math.min(Math.max(unpackedBytes + 64, 4096), 4 << 20);
}

/**
 * What a zstd frame says of its unpacked size; undefined where it does not, as a writer that streams cannot. RFC 8878,
 * 3.1.1: magic, descriptor, window byte unless "single segment", dictionary id, content size of 1, 2 (plus 256), 4 or 8
 * bytes. Only a hint: whoever wrote the frame may lie.
 */
export function zstdContentSize(frame: Buffer): number | undefined {
  if (frame.length < MAX_FRAME_HEADER) return undefined;
  const descriptor = frame[4]!;
  const singleSegment = (descriptor & 0x20) !== 0;
  const at = 5 + (singleSegment ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!;
  switch (descriptor >> 6) {
    case 0: return singleSegment ? frame[at]! : undefined;
    case 1: return frame.readUInt16LE(at) + 256;
    case 2: return frame.readUInt32LE(at);
    default: return Number(frame.readBigUInt64LE(at));
  }
}

function readBytes(bytes: Buffer, cursor: Cursor): Buffer | null {
  const length = readVarint(bytes, cursor);
  if (length < 0) return null;
  const begin = cursor.at;
  cursor.at += length;
  if (cursor.at > bytes.length) throw new RangeError('Kafka record: a value ends behind its batch');
  return bytes.subarray(begin, cursor.at);
}

function readHeaders(bytes: Buffer, cursor: Cursor, end: number, last: LastHeaders): Record<string, Buffer> {
  if (sameBytes(bytes, cursor.at, end, last)) return last.headers;
  last.start = cursor.at;
  last.end = end;
  return (last.headers = parseHeaders(bytes, cursor));
}

function sameBytes(bytes: Buffer, start: number, end: number, other: LastHeaders): boolean {
  if (end - start !== other.end - other.start) return false;
  for (let at = start, from = other.start; at < end; at++, from++) if (bytes[at] !== bytes[from]) return false;
  return true;
}

function parseHeaders(bytes: Buffer, cursor: Cursor): Record<string, Buffer> {
  const count = readVarint(bytes, cursor);
  if (count <= 0) return NO_HEADERS;
  const headers: Record<string, Buffer> = Object.create(null);
  for (let index = 0; index < count; index++) {
    const name = readBytes(bytes, cursor)?.toString('latin1') ?? '';
    headers[name] ??= readBytes(bytes, cursor) ?? Buffer.alloc(0);
  }
  return headers;
}

function gap(offset: number, timestamp: string, context: DecodedMessage['batchContext']): DecodedMessage {
  return { magicByte: MAGIC, attributes: 0, timestamp, offset: String(offset), key: null, value: null, headers: NO_HEADERS, isControlRecord: true, batchContext: context };
}
