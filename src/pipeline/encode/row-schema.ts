import type { RowShape } from '../../core/contracts.ts';
import type { SchemaRecord } from '../../core/state.ts';
import { crc64Avro } from './crc64-avro.ts';

/** One column: always a nullable string, since a cell is the server's own text. `column` only where the name differs. */
export interface AvroField {
  readonly name: string;
  readonly type: readonly ['null', 'string'];
  readonly default: null;
  readonly column?: string;
}

export interface AvroRecord {
  readonly type: 'record';
  readonly name: string;
  readonly fields: readonly AvroField[];
}

export interface RowSchema {
  readonly shape: RowShape;
  readonly avro: AvroRecord;
  /** CRC-64-AVRO of the canonical form: the 8 bytes as they stand in a value, little-endian. */
  readonly fingerprint: Buffer;
  /** The same 8 bytes as 16 hex digits: the key on the control topic (`stateKeys.schema`). */
  readonly hex: string;
}

const AVRO_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const ESCAPED = '_x_';

/**
 * A column's Avro name. Names that Avro does not allow are written in hex, and so is a name that looks escaped: two
 * columns must never share a name, since the canonical form knows only names and one fingerprint would then mean two
 * shapes.
 */
export function avroNameOf(column: string): string {
  if (AVRO_NAME.test(column) && !column.startsWith(ESCAPED)) return column;
  return ESCAPED + Buffer.from(column, 'utf8').toString('hex');
}

const known = new WeakMap<RowShape, RowSchema>();

/** The schema of a shape. Kept by the identity of the shape object, which lives as long as its Relation message. */
export function schemaOf(shape: RowShape): RowSchema {
  let schema = known.get(shape);
  if (!schema) known.set(shape, (schema = build(shape)));
  return schema;
}

function build(shape: RowShape): RowSchema {
  const fields = shape.columns.map((column): AvroField => {
    const name = avroNameOf(column);
    const field: AvroField = { name, type: ['null', 'string'], default: null };
    return name === column ? field : { ...field, column };
  });
  const avro: AvroRecord = { type: 'record', name: shape.table, fields };
  const fingerprint = crc64Avro(Buffer.from(canonicalForm(avro), 'utf8'));
  return { shape, avro, fingerprint, hex: fingerprint.toString('hex') };
}

/** Parsing Canonical Form of the Avro specification: name, type, fields in this order, without default and extras. */
export function canonicalForm(avro: AvroRecord): string {
  const fields = avro.fields.map(({ name, type }) => ({ name, type }));
  return JSON.stringify({ name: avro.name, type: avro.type, fields });
}

/** What is put on the control topic under `stateKeys.schema(hex)`. */
export function schemaRecordOf(schema: RowSchema): SchemaRecord {
  return { table: schema.shape.table, columns: schema.shape.columns, avro: schema.avro };
}

/**
 * The way back from the control topic. Throws a RangeError when the record does not have the fingerprint it was found
 * under: rows decoded with it would have their values in other columns.
 */
export function schemaFromRecord(hex: string, record: SchemaRecord): RowSchema {
  const schema = schemaOf({ table: record.table, columns: record.columns });
  if (schema.hex !== hex) throw new RangeError(`the schema of ${record.table} on the control topic does not have the fingerprint ${hex}`);
  return schema;
}
