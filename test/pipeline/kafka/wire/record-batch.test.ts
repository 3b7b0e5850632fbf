import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { createZstdCompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AT, CODEC, CONTROL } from '../../../../src/pipeline/kafka/wire/batch-format.ts';
import { crc32c } from '../../../../src/pipeline/kafka/wire/crc32c.ts';
import { decodeBatches, zstdContentSize } from '../../../../src/pipeline/kafka/wire/decode-batches.ts';
import { encodeBatch, type Writable, type WireMessage } from '../../../../src/pipeline/kafka/wire/encode-batch.ts';
import { readVarint, sizeOfVarint, writeVarint } from '../../../../src/pipeline/kafka/wire/varint.ts';

const require = createRequire(import.meta.url);
const Decoder = require('kafkajs/src/protocol/decoder');
const theirDecoder = require('kafkajs/src/protocol/recordBatch/v0/decoder') as (decoder: unknown) => Promise<{ records: Record<string, unknown>[]; firstSequence: number; producerEpoch: number; inTransaction: boolean }>;
const theirCrc = require('kafkajs/src/protocol/recordBatch/crc32C') as (bytes: Buffer) => number;
const theirCodecs = require('kafkajs/src/protocol/message/compression') as { Codecs: Record<number, () => unknown> };
theirCodecs.Codecs[4] = () => ({ decompress: async (bytes: Buffer) => zstdDecompressSync(bytes) });

const bytes = fc.uint8Array({ maxLength: 400 }).map((array) => Buffer.from(array));
/** A value that writes itself, as a row does. */
const writable: fc.Arbitrary<Writable> = bytes.map((value) => ({ length: value.length, writeTo: (target, offset) => offset + value.copy(target, offset) }));
const message: fc.Arbitrary<WireMessage> = fc.record({
  key: fc.option(bytes, { nil: null }),
  value: fc.option(fc.oneof(bytes, writable, fc.string({ unit: 'binary' })), { nil: null }),
  headers: fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), fc.oneof(fc.string({ unit: 'grapheme' }), bytes), { maxKeys: 5 }),
});
const options = { transactional: true, producerId: 4_294_967_299n, producerEpoch: 7, firstSequence: 42, timestampMs: 1_760_000_000_123 };
function asBuffer(value: WireMessage['value'] | undefined): Buffer | null {
  if (value === null || value === undefined) return null;
  if (typeof value === 'string' || !('writeTo' in value)) return Buffer.from(value as string);
  const target = Buffer.alloc(value.length);
  value.writeTo(target, 0);
  return target;
}

async function createZstdFrame(parts: readonly Buffer[]): Promise<Buffer[]> {
  const packer = createZstdCompress();
  for (const part of parts) packer.write(part);
  packer.end();
  return (await packer.toArray()) as Buffer[];
}

describe('record batch', () => {
  it.each(Object.values(CODEC))('with codec %i is read by kafkajs as it was meant', async (compression) => {
    await fc.assert(
      fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 200 }), async (messages) => {
        const batch = await encodeBatch(messages, { ...options, compression });
        const theirs = await theirDecoder(new Decoder(batch));
        expect(theirs.records).toHaveLength(messages.length);
        expect(theirs).toMatchObject({ firstSequence: 42, producerEpoch: 7, inTransaction: true, producerId: '4294967299' });
        theirs.records.forEach((record, index) => {
          expect(record['offset']).toBe(String(index));
          expect(record['timestamp']).toBe('1760000000123');
          expect(record['key']).toEqual(asBuffer(messages[index]!.key));
          expect(record['value']).toEqual(asBuffer(messages[index]!.value));
        });
        expect(batch.readUInt32BE(AT.crc)).toBe(theirCrc(batch.subarray(AT.attributes)));
      }),
      { numRuns: 60 },
    );
  });

  it('is read back by our own decoder, headers too, several in a row', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(message, { minLength: 1, maxLength: 20 }), { maxLength: 5 }), fc.constantFrom(...Object.values(CODEC)), async (batches, compression) => {
        const encoded = await Promise.all(batches.map((messages) => encodeBatch(messages, { ...options, compression })));
        const decoded = decodeBatches(Buffer.concat(encoded), Infinity);
        const flat = batches.flat();
        expect(decoded).toHaveLength(flat.length);
        decoded.forEach((record, index) => {
          expect(record.key).toEqual(asBuffer(flat[index]!.key));
          expect(record.value).toEqual(asBuffer(flat[index]!.value));
          expect({ ...record.headers }).toEqual(Object.fromEntries(Object.entries(flat[index]!.headers ?? {}).map(([name, value]) => [name, asBuffer(value)])));
        });
      }),
      { numRuns: 60 },
    );
  });

  it('leaves out what the broker cut off, at any byte', async () => {
    const one = await encodeBatch([{ key: 'a', value: 'x'.repeat(300) }], { ...options, compression: CODEC.zstd });
    const two = Buffer.concat([one, one]);
    for (let end = 0; end < two.length; end++) expect(decodeBatches(two.subarray(0, end), Infinity)).toHaveLength(end < one.length ? 0 : 1);
  });

  it('stops behind the batch that exceeds the budget, however well it packed, and always brings one', async () => {
    const batch = await encodeBatch([{ key: 'a', value: Buffer.alloc(1_000_000) }], { ...options, compression: CODEC.zstd });
    expect(batch.length).toBeLessThan(1000);
    const ten = Buffer.concat(Array.from({ length: 10 }, () => batch));
    expect(decodeBatches(ten, 2_500_000)).toHaveLength(3);
    expect(decodeBatches(ten, 0)).toHaveLength(1);
  });

  it('that compaction emptied still moves the position to its last offset', async () => {
    const batch = await encodeBatch([{ key: 'a', value: 'v' }, { key: 'b', value: 'v' }], { ...options, compression: CODEC.none });
    const emptied = Buffer.from(batch.subarray(0, AT.records));
    emptied.writeInt32BE(emptied.length - 12, AT.length);
    emptied.writeInt32BE(0, AT.count);
    emptied.writeInt32BE(9, AT.lastOffsetDelta);
    emptied.writeBigInt64BE(100n, AT.baseOffset);
    expect(decodeBatches(emptied, Infinity)).toMatchObject([{ offset: '109', isControlRecord: true, value: null }]);
  });

  it('that lost its last record by compaction brings the rest and the position', async () => {
    const batch = await encodeBatch([{ key: 'a', value: 'v' }], { ...options, compression: CODEC.none });
    batch.writeInt32BE(3, AT.lastOffsetDelta);
    expect(decodeBatches(batch, Infinity).map(({ offset, isControlRecord }) => [offset, isControlRecord])).toEqual([['0', false], ['3', true]]);
  });

  it('of markers is told from records', async () => {
    const batch = await encodeBatch([{ key: Buffer.from([0, 0, 0, 0]), value: Buffer.alloc(6) }], { ...options, compression: CODEC.none });
    batch.writeInt16BE(batch.readInt16BE(AT.attributes) | CONTROL, AT.attributes);
    expect(decodeBatches(batch, Infinity)[0]?.isControlRecord).toBe(true);
  });

  it('of another codec is refused with the cure', async () => {
    const batch = await encodeBatch([{ key: 'a', value: 'v'.repeat(500) }], { ...options, compression: CODEC.zstd });
    batch.writeInt16BE(3, AT.attributes);
    expect(() => decodeBatches(batch, Infinity)).toThrow(/compression\.type=producer/);
  });

  it('never reads beyond foreign bytes', async () => {
    const batch = await encodeBatch([{ key: 'a', value: 'v'.repeat(50), headers: { h: 'x' } }], { ...options, compression: CODEC.none });
    fc.assert(
      fc.property(fc.nat(batch.length - 1), fc.nat(255), (at, byte) => {
        const broken = Buffer.from(batch);
        broken[at] = byte;
        try {
          decodeBatches(broken, Infinity);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
    );
  });
});

describe('the content size of a zstd frame', () => {
  it.each([20, 255, 256, 257, 65_791, 65_792, 1_000_000])('is read for %i bytes', (length) => {
    const frame = zstdCompressSync(randomBytes(length));
    expect(zstdContentSize(frame)).toBe(length);
  });

  it('is not asked of a frame whose writer did not know it', async () => {
    const streamed = Buffer.concat(await createZstdFrame([Buffer.alloc(5_000, 1), Buffer.alloc(70_000, 2)]));
    expect(zstdContentSize(streamed)).toBeUndefined();
  });
});

describe('crc32c', () => {
  it('has the check value of the catalogue and equals kafkajs for any bytes', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (array) => void expect(crc32c(array)).toBe(theirCrc(Buffer.from(array)))));
  });
});

describe('varint', () => {
  it('comes back from as many bytes as were foretold', () => {
    fc.assert(
      fc.property(fc.oneof(fc.integer(), fc.constantFrom(0, -1, 63, 64, -64, -65, 2 ** 31 - 1, -(2 ** 31)), fc.integer({ min: -(2 ** 40), max: 2 ** 40 })), (value) => {
        const target = Buffer.alloc(10);
        const end = writeVarint(target, 0, value);
        expect(end).toBe(sizeOfVarint(value));
        expect(readVarint(target, { at: 0 })).toBe(value === 0 ? 0 : value);
      }),
    );
  });
});
