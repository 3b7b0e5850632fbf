import type { Row, RowShape } from '../../core/contracts.ts';
import type { SchemaRecord } from '../../core/state.ts';
import { headersOf, parseHeaders } from './headers.ts';
import { encodeKey } from './key-codec.ts';
import { RowValue } from './row-codec.ts';
import { schemaOf, schemaRecordOf } from './row-schema.ts';

/** Everything that the Kafka stage asks of an encoding. */
export function createAvroEncoding() {
  return {
    key: encodeKey,
    schema(shape: RowShape): { hex: string; record: SchemaRecord } {
      const schema = schemaOf(shape);
      return { hex: schema.hex, record: schemaRecordOf(schema) };
    },
    value: (row: Row): RowValue => new RowValue(row.cells, schemaOf(row.shape).fingerprint),
    headers: headersOf,
    parseHeaders,
  };
}
