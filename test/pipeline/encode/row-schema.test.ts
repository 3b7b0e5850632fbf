import avsc from 'avsc';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc64Avro } from '../../../src/pipeline/encode/crc64-avro.ts';
import { avroNameOf, canonicalForm, schemaFromRecord, schemaOf, schemaRecordOf } from '../../../src/pipeline/encode/row-schema.ts';

describe('row schema', () => {
  it('has the fingerprints that the Avro project publishes for its primitives', () => {
    // share/test/data/schema-tests.txt of apache/avro, signed there, the same 64 bits here.
    const expected: [string, bigint][] = [['"null"', 7195948357588979594n], ['"int"', 8247732601305521295n], ['"string"', -8142146995180207161n]];
    for (const [schema, fingerprint] of expected) expect(crc64Avro(Buffer.from(schema)).readBigInt64LE()).toBe(fingerprint);
  });

  it('agrees with avsc on the canonical form of any table', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string({ minLength: 1, unit: 'binary' }), { minLength: 1 }), (columns) => {
        const { avro } = schemaOf({ table: 'workflow_runs', columns });
        const type = avsc.Type.forSchema(avro as unknown as avsc.Schema, { wrapUnions: false });
        expect(JSON.parse(canonicalForm(avro))).toEqual(type.schema());
        expect(canonicalForm(avro)).toBe(JSON.stringify(type.schema()));
      }),
    );
  });

  it('never gives two columns one Avro name', () => {
    const names = ['a b', 'a_b', 'a-b', 'ä', '1st', '_x_61', 'a', '', ' '].map(avroNameOf);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^[A-Za-z_][A-Za-z0-9_]*$/);
  });

  it('comes back from the control topic with the real column names', () => {
    const shape = { table: 'workflow_app_logs' as const, columns: ['id', 'Größe in MB', 'created_at'] };
    const schema = schemaOf(shape);
    const back = schemaFromRecord(schema.hex, JSON.parse(JSON.stringify(schemaRecordOf(schema))));
    expect(back.shape).toEqual(shape);
    expect(back.fingerprint).toEqual(schema.fingerprint);
    expect(JSON.stringify(schema.avro)).toContain('"column":"Größe in MB"');
  });

  it('has another fingerprint for another order, table or set of columns', () => {
    const of = (table: 'workflow_runs' | 'workflow_app_logs', columns: string[]) => schemaOf({ table, columns }).hex;
    const all = [of('workflow_runs', ['a', 'b']), of('workflow_runs', ['b', 'a']), of('workflow_runs', ['a']), of('workflow_app_logs', ['a', 'b'])];
    expect(new Set(all).size).toBe(4);
  });

  it('refuses a schema that was stored under another fingerprint', () => {
    const record = schemaRecordOf(schemaOf({ table: 'workflow_runs', columns: ['id'] }));
    expect(() => schemaFromRecord('0000000000000000', record)).toThrow(RangeError);
  });
});
