import type { RowKey } from '../../core/row-key.ts';
import { AvroReader, sizeOfLength, writeLength } from './avro-bytes.ts';

/**
 * The Avro schema of every key. Compaction compares key bytes, so these bytes are pinned: a change of the schema or of
 * how PostgreSQL prints created_at makes a second key for the same row, and the older record never goes away.
 */
export const KEY_SCHEMA = {
  type: 'record',
  name: 'row_key',
  fields: [
    { name: 'tenant_id', type: 'string' },
    { name: 'created_at', type: 'string' },
    { name: 'id', type: 'string' },
  ],
} as const;

/** Plain Avro binary of KEY_SCHEMA, without the marker and fingerprint that values carry. */
export function encodeKey(key: RowKey): Buffer {
  const texts = [key.tenantId, key.createdAt, key.id];
  const lengths = texts.map((text) => Buffer.byteLength(text));
  const bytes = Buffer.allocUnsafe(lengths.reduce((size, length) => size + sizeOfLength(length) + length, 0));
  let at = 0;
  texts.forEach((text, index) => {
    at = writeLength(bytes, at, lengths[index]!);
    at += bytes.write(text, at);
  });
  return bytes;
}

/** Throws a RangeError when the bytes are no key of this program. */
export function decodeKey(bytes: Buffer): RowKey {
  const reader = new AvroReader(bytes, 0);
  const text = (): string => bytes.toString('utf8', reader.skip(reader.length()), reader.offset);
  const key = { tenantId: text(), createdAt: text(), id: text() };
  reader.end();
  return key;
}
