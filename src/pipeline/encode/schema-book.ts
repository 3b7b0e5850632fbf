import { DifyEsError } from '../../core/errors.ts';
import { type ControlLog, type SchemaRecord, stateKeys } from '../../core/state.ts';
import { type RowSchema, schemaFromRecord } from './row-schema.ts';

/** The schemas on the control topic, by the fingerprint that stands in a value. */
export interface SchemaBook {
  /** At once, or undefined: for the hot path, which meets the same few fingerprints again and again. */
  get(hex: string): RowSchema | undefined;
  /**
   * Waits for a fingerprint that is not known yet: the schema was acknowledged before the record, but this view of the
   * control topic may be behind. Throws KAFKA_SCHEMA_UNKNOWN after the patience.
   */
  wait(hex: string, patienceMs?: number): Promise<RowSchema>;
}

export function createSchemaBook(control: ControlLog): SchemaBook {
  const known = new Map<string, RowSchema>();

  const get = (hex: string): RowSchema | undefined => {
    const found = known.get(hex);
    if (found) return found;
    const record = control.get<SchemaRecord>(stateKeys.schema(hex));
    if (!record) return undefined;
    const schema = schemaFromRecord(hex, record);
    known.set(hex, schema);
    return schema;
  };

  const arrival = async (hex: string): Promise<RowSchema> => {
    const seen = Promise.withResolvers<RowSchema>();
    const look = (): void => {
      const schema = get(hex);
      if (schema) seen.resolve(schema);
    };
    const stop = control.onChange(look);
    try {
      look();
      return await seen.promise;
    } finally {
      stop();
    }
  };

  return {
    get,
    async wait(hex, patienceMs = 30_000) {
      const late = Promise.withResolvers<never>();
      const timer = setTimeout(() => late.reject(new DifyEsError('KAFKA_SCHEMA_UNKNOWN', `no schema ${hex} on the control topic`)), patienceMs);
      try {
        return await Promise.race([arrival(hex), late.promise]);
      } finally {
        clearTimeout(timer);
      }
    },
  };
}
