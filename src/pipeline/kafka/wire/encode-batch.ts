import { promisify } from 'node:util';
import { constants, gzip, gzipSync, zstdCompress, zstdCompressSync } from 'node:zlib';
import { release } from '../../../core/release.ts';
import { AT, CODEC, LOG_OVERHEAD, MAGIC, TRANSACTIONAL } from './batch-format.ts';
import { crc32c } from './crc32c.ts';
import { sizeOfVarint, writeVarint } from './varint.ts';

/** A value that writes itself into the batch: `length` bytes, and the offset behind them comes back. */
export interface Writable {
  readonly length: number;
  writeTo(target: Buffer, offset: number): number;
}

/** A message as kafkajs takes it, without what this program never sends, and with values that kafkajs does not know. */
export interface WireMessage {
  readonly key?: Buffer | string | null;
  readonly value: Buffer | Writable | string | null;
  readonly headers?: Readonly<Record<string, string | Buffer>>;
}

export interface BatchOptions {
  /** Kafka's codec number; see CODEC. */
  readonly compression: number;
  readonly transactional: boolean;
  readonly producerId: bigint;
  readonly producerEpoch: number;
  readonly firstSequence: number;
  readonly timestampMs: number;
}

/** As quick as level 1 for batches of 1 MB, and its larger tables find the graphs that are in them again and again: a fifth less bytes. */
const LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 2 } };
/** node:zlib joins its output from chunks of 16 KiB unless told otherwise, which costs as much as the packing. */
const chunkFor = (rawBytes: number): number => Math.min(Math.max(rawBytes >> 1, 4096), 1 << 20);
const zstdAsync = promisify(zstdCompress);
const gzipAsync = promisify(gzip);

/** Below this a batch gains nothing, and the context of a compressor costs more than the bytes. */
const TOO_SMALL = 256;
/** Above this the compressor runs on the thread pool; a small batch goes at once, since somebody waits for it. */
const ASYNC_FROM = 64 * 1024;

/** One record batch, complete with its crc, as it stands in a produce request. */
export async function encodeBatch(messages: readonly WireMessage[], options: BatchOptions): Promise<Buffer> {
  const sizes = messages.map(sizeOfBody);
  const rawSize = sizes.reduce((sum, size) => sum + sizeOfVarint(size) + size, 0);
  const codec = rawSize < TOO_SMALL ? CODEC.none : options.compression;
  if (codec === CODEC.none) {
    const batch = Buffer.allocUnsafeSlow(AT.records + rawSize);
    writeRecords(batch, AT.records, messages, sizes);
    return finish(batch, messages.length, codec, options);
  }
  const scratch = borrow(rawSize);
  try {
    writeRecords(scratch, 0, messages, sizes);
    const packed = await compress(scratch.subarray(0, rawSize), codec);
    const batch = Buffer.allocUnsafeSlow(AT.records + packed.length);
    batch.set(packed, AT.records);
    release(packed);
    return finish(batch, messages.length, codec, options);
  } finally {
    giveBack(scratch);
  }
}

/**
 * Large buffers are kept and used again: made anew for each batch they are the collector's main work, since memory
 * outside of its heap makes it run early.
 */
const SCRATCH_BYTES = 2 << 20;
const SCRATCH_COUNT = 8;
const idle: Buffer[] = [];

function borrow(bytes: number): Buffer {
  if (bytes > SCRATCH_BYTES) return Buffer.allocUnsafeSlow(bytes);
  return idle.pop() ?? Buffer.allocUnsafeSlow(SCRATCH_BYTES);
}

function giveBack(scratch: Buffer): void {
  if (scratch.length === SCRATCH_BYTES && idle.length < SCRATCH_COUNT) idle.push(scratch);
}

function finish(batch: Buffer, count: number, codec: number, options: BatchOptions): Buffer {
  batch.writeBigInt64BE(0n, AT.baseOffset);
  batch.writeInt32BE(batch.length - LOG_OVERHEAD, AT.length);
  batch.writeInt32BE(0, AT.leaderEpoch);
  batch[AT.magic] = MAGIC;
  batch.writeInt16BE(codec | (options.transactional ? TRANSACTIONAL : 0), AT.attributes);
  batch.writeInt32BE(count - 1, AT.lastOffsetDelta);
  batch.writeBigInt64BE(BigInt(options.timestampMs), AT.baseTimestamp);
  batch.writeBigInt64BE(BigInt(options.timestampMs), AT.maxTimestamp);
  batch.writeBigInt64BE(options.producerId, AT.producerId);
  batch.writeInt16BE(options.producerEpoch, AT.producerEpoch);
  batch.writeInt32BE(options.firstSequence, AT.baseSequence);
  batch.writeInt32BE(count, AT.count);
  batch.writeUInt32BE(crc32c(batch, AT.attributes), AT.crc);
  return batch;
}

async function compress(raw: Buffer, codec: number): Promise<Buffer> {
  const chunkSize = chunkFor(raw.length);
  if (codec === CODEC.zstd) return raw.length < ASYNC_FROM ? zstdCompressSync(raw, { ...LEVEL, chunkSize }) : zstdAsync(raw, { ...LEVEL, chunkSize });
  if (codec === CODEC.gzip) return raw.length < ASYNC_FROM ? gzipSync(raw, { level: 1, chunkSize }) : gzipAsync(raw, { level: 1, chunkSize });
  throw new TypeError(`no codec ${codec}`);
}

const lengthOf = (value: Buffer | Writable | string): number => (typeof value === 'string' ? Buffer.byteLength(value) : value.length);

function sizeOfBytes(value: Buffer | Writable | string | null | undefined): number {
  if (value === null || value === undefined) return 1;
  const length = lengthOf(value);
  return sizeOfVarint(length) + length;
}

/** Attributes and timestamp delta take one byte each (always 0); the offset delta is counted where the index is known. */
function sizeOfBody(message: WireMessage, index: number): number {
  let size = 2 + sizeOfVarint(index) + sizeOfBytes(message.key) + sizeOfBytes(message.value);
  let headers = 0;
  for (const name in message.headers) {
    size += sizeOfBytes(name) + sizeOfBytes(message.headers[name]!);
    headers++;
  }
  return size + sizeOfVarint(headers);
}

function writeBytes(target: Buffer, at: number, value: Buffer | Writable | string | null | undefined): number {
  if (value === null || value === undefined) return writeVarint(target, at, -1);
  if (typeof value !== 'string') {
    const begin = writeVarint(target, at, value.length);
    if ('writeTo' in value) return value.writeTo(target, begin);
    target.set(value, begin);
    return begin + value.length;
  }
  const begin = writeVarint(target, at, Buffer.byteLength(value));
  return begin + target.write(value, begin);
}

function writeRecords(target: Buffer, offset: number, messages: readonly WireMessage[], sizes: readonly number[]): void {
  let at = offset;
  messages.forEach((message, index) => (at = writeRecord(target, at, message, index, sizes[index]!)));
}

function writeRecord(target: Buffer, offset: number, message: WireMessage, index: number, size: number): number {
  let at = writeVarint(target, offset, size);
  target[at++] = 0;
  target[at++] = 0;
  at = writeVarint(target, at, index);
  at = writeBytes(target, at, message.key);
  at = writeBytes(target, at, message.value);
  at = writeVarint(target, at, Object.keys(message.headers ?? {}).length);
  for (const name in message.headers) {
    at = writeBytes(target, at, name);
    at = writeBytes(target, at, message.headers[name]!);
  }
  return at;
}
