import avsc from 'avsc';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseLsn } from '../../../src/core/lsn.ts';
import { parseVersion } from '../../../src/core/row-version.ts';
import { headersOf, parseHeaders } from '../../../src/pipeline/encode/headers.ts';
import { decodeKey, encodeKey, KEY_SCHEMA } from '../../../src/pipeline/encode/key-codec.ts';

const text = fc.string({ unit: 'grapheme' });

describe('row key', () => {
  it('is written as avsc writes it and comes back unchanged', () => {
    const type = avsc.Type.forSchema(KEY_SCHEMA as unknown as avsc.Schema);
    fc.assert(
      fc.property(text, text, text, (tenantId, createdAt, id) => {
        const key = { tenantId, createdAt, id };
        const bytes = encodeKey(key);
        expect(bytes.equals(type.toBuffer({ tenant_id: tenantId, created_at: createdAt, id }))).toBe(true);
        expect(decodeKey(bytes)).toEqual(key);
      }),
    );
  });

  it('cannot be made of bytes that are cut or go on', () => {
    const bytes = encodeKey({ tenantId: 't', createdAt: '2025-10-10 08:25:41.1234', id: 'i' });
    for (let end = 0; end < bytes.length; end++) expect(() => decodeKey(bytes.subarray(0, end))).toThrow(RangeError);
    expect(() => decodeKey(Buffer.concat([bytes, bytes]))).toThrow(RangeError);
  });
});

describe('headers', () => {
  it('keep every digit of a version above 2^53', () => {
    const record = { version: parseVersion('9223372036854775807'), op: 'read' as const, lsn: parseLsn('16/B374D848'), timeMs: 1_760_000_000_123 };
    const headers = headersOf(record);
    expect(headers).toEqual({ version: '9223372036854775807', op: 'r', lsn: '16/B374D848', time: '1760000000123' });
    const wire = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Buffer.from(value)]));
    expect(parseHeaders(wire)).toEqual({ version: record.version, op: 'r', lsn: '16/B374D848', timeMs: record.timeMs });
  });

  it('have one letter for each operation', () => {
    const letter = (op: 'read' | 'insert' | 'update' | 'delete') => headersOf({ version: parseVersion('1'), op, lsn: parseLsn('0/1'), timeMs: 0 }).op;
    expect((['read', 'insert', 'update', 'delete'] as const).map(letter).join('')).toBe('rcud');
  });

  it('of a foreign record are read without an exception', () => {
    expect(parseHeaders(undefined).version).toBeNull();
    for (const version of ['', '-1', '1.5', 'abc', '9223372036854775808', '1'.repeat(40)]) expect(parseHeaders({ version: Buffer.from(version) }).version).toBeNull();
    expect(parseHeaders({ version: [Buffer.from('5'), Buffer.from('6')] }).version).toBe(5n);
  });
});
