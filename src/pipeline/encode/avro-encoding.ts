import type { Row, RowRecord, RowShape } from '../../core/contracts.ts';
import type { SchemaRecord } from '../../core/state.ts';
import { headersOf, parseHeaders } from './headers.ts';
import { encodeKey } from './key-codec.ts';
import { createRowEncoder } from './row-codec.ts';
import { schemaOf, schemaRecordOf } from './row-schema.ts';

/**
 * Everything that the Kafka stage asks of an encoding. One for each publisher: rows of one encoder share large buffers
 * that live as long as the last of them.
 */
export function createAvroEncoding() {
  const encode = createRowEncoder();
  return {
    key: encodeKey,
    schema(shape: RowShape): { hex: string; record: SchemaRecord } {
      const schema = schemaOf(shape);
      return { hex: schema.hex, record: schemaRecordOf(schema) };
    },
    value: (row: Row): Buffer => encode(row.cells, schemaOf(row.shape).fingerprint),
    headers: (record: RowRecord): Record<string, string> => ({ ...headersOf(record) }),
    parseHeaders,
  };
}
