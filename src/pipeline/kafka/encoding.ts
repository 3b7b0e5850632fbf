import type { ConsumedRecord, Row, RowRecord, RowShape } from '../../core/contracts.ts';
import type { RowKey } from '../../core/row-key.ts';
import type { SchemaRecord } from '../../core/state.ts';
import type { Writable } from './wire/encode-batch.ts';

/** How records become bytes: handed in by the wiring (src/pipeline/encode), so that this stage knows no format. */
export interface RecordEncoding {
  key(key: RowKey): Buffer;
  /** The schema that a row's value refers to, and its key on the control topic without the prefix. */
  schema(shape: RowShape): { readonly hex: string; readonly record: SchemaRecord };
  value(row: Row): Writable;
  headers(record: RowRecord): Readonly<Record<string, string>>;
  /** Never throws: what cannot be read has `version: null`. */
  parseHeaders(headers: Readonly<Record<string, Buffer | string | (Buffer | string)[] | undefined>> | undefined): ConsumedRecord['headers'];
}
