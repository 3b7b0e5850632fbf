/*
 * A record batch of magic 2, as in the Kafka documentation ("Message Format", "Record Batch"):
 *
 *   baseOffset int64 | batchLength int32 | partitionLeaderEpoch int32 | magic int8 | crc uint32 | attributes int16 |
 *   lastOffsetDelta int32 | baseTimestamp int64 | maxTimestamp int64 | producerId int64 | producerEpoch int16 |
 *   baseSequence int32 | count int32 | records (compressed as one)
 *
 * The crc covers everything from the attributes to the end.
 */
export const AT = {
  baseOffset: 0, length: 8, leaderEpoch: 12, magic: 16, crc: 17, attributes: 21, lastOffsetDelta: 23, baseTimestamp: 27,
  maxTimestamp: 35, producerId: 43, producerEpoch: 51, baseSequence: 53, count: 57, records: 61,
} as const;

/** Bytes before `batchLength` begins to count. */
export const LOG_OVERHEAD = 12;
export const MAGIC = 2;

export const CODEC_MASK = 0x07;
export const TRANSACTIONAL = 0x10;
export const CONTROL = 0x20;
export const LOG_APPEND_TIME = 0x08;

export const CODEC = { none: 0, gzip: 1, zstd: 4 } as const;
export type Compression = keyof typeof CODEC;
