import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Tuple, UNCHANGED } from '../../../src/core/cells.ts';
import { PgoutputDecoder } from '../../../src/pipeline/decode/pgoutput.ts';
import { type TupleValue, valuesOf } from '../../support/cells.ts';
import { MessageWriter, relationMessage } from './messages.ts';

const OID = 16_400;

function decoderWith(columns: readonly string[] = ['id', 'graph']): PgoutputDecoder {
  const decoder = new PgoutputDecoder();
  decoder.decode(relationMessage(OID, 'workflow_runs', columns));
  return decoder;
}

describe('positions and times', () => {
  test('a begin carries the commit LSN, the commit time and the xid, all unsigned', () => {
    const message = new MessageWriter('B').int64(0xffff_ffff_0000_0001n).int64(813_399_941_123_456n).int32(0xffff_fff0).done();
    expect(new PgoutputDecoder().decode(message)).toEqual({ kind: 'begin', commitLsn: 0xffff_ffff_0000_0001n, commitTimeMs: 1_760_084_741_123, xid: 0xffff_fff0 });
  });

  test('a commit carries the LSN of its record and the end of it', () => {
    const message = new MessageWriter('C').byte(0).int64(0x16_b374_d848n).int64(0x16_b374_d878n).int64(0n).done();
    expect(new PgoutputDecoder().decode(message)).toEqual({ kind: 'commit', commitLsn: 0x16_b374_d848n, endLsn: 0x16_b374_d878n, commitTimeMs: 946_684_800_000 });
  });
});

describe('tables', () => {
  test('a table above oid 2^31 is found again', () => {
    const decoder = new PgoutputDecoder();
    decoder.decode(relationMessage(0xf000_0001, 'workflow_app_logs', ['id']));
    expect(decoder.decode(new MessageWriter('I').int32(0xf000_0001).byte('N').tuple([Buffer.from('x')]).done())).toMatchObject({ kind: 'insert' });
  });

  test.each([['n', 'nothing'], ['d', 'default'], ['f', 'full'], ['i', 'index']])('replica identity %s is %s', (letter, name) => {
    expect(new PgoutputDecoder().decode(relationMessage(OID, 'workflow_runs', ['id'], { identity: letter }))).toMatchObject({ relation: { replicaIdentity: name } });
  });

  test('the same table in another schema, and a table that is none of ours, are of no concern', () => {
    const decoder = new PgoutputDecoder();
    for (const [oid, message] of [[1, relationMessage(1, 'workflow_runs', ['id'], { schema: 'archive' })], [2, relationMessage(2, 'accounts', ['id'])]] as const) {
      expect(decoder.decode(message)).toEqual({ kind: 'other' });
      expect(decoder.decode(new MessageWriter('I').int32(oid).byte('N').tuple([null]).done())).toEqual({ kind: 'other' });
      expect(decoder.decode(new MessageWriter('D').int32(oid).byte('K').tuple([null]).done())).toEqual({ kind: 'other' });
      expect(decoder.decode(new MessageWriter('T').int32(1).byte(0).int32(oid).done())).toEqual({ kind: 'other' });
    }
  });

  test('a table announced again is another object, so that nobody takes its columns for the old ones', () => {
    const decoder = new PgoutputDecoder();
    const announced = [1, 2].map(() => decoder.decode(relationMessage(OID, 'workflow_runs', ['id'])));
    expect(announced[0]).toEqual(announced[1]);
    expect((announced[0] as { relation: unknown }).relation).not.toBe((announced[1] as { relation: unknown }).relation);
  });

  test('a change of a table that was never announced is refused', () => {
    expect(() => new PgoutputDecoder().decode(new MessageWriter('I').int32(7).byte('N').tuple([]).done())).toThrow(/before announcing/);
  });
});

describe('rows', () => {
  const cell: fc.Arbitrary<TupleValue> = fc.oneof(
    fc.constant(null),
    fc.constant(UNCHANGED),
    fc.string({ unit: 'binary', maxLength: 200 }).map((text) => Buffer.from(text, 'utf8')),
  );

  test('whatever the server sends as text arrives byte for byte, null and unchanged as what they are', () => {
    fc.assert(
      fc.property(fc.array(cell, { minLength: 1, maxLength: 30 }), fc.constantFrom('I', 'U', 'O', 'K', 'D'), (cells, form) => {
        const decoder = decoderWith(cells.map((_, i) => `c${i}`));
        const writer = new MessageWriter(form === 'O' || form === 'K' ? 'U' : form).int32(OID);
        if (form === 'O' || form === 'K') writer.byte(form).tuple(cells);
        const message = writer.byte(form === 'D' ? 'O' : 'N').tuple(cells).done();
        const decoded = decoder.decode(message) as { tuple: Tuple; old: { cells: Tuple } };
        if (form !== 'D') expect(valuesOf(decoded.tuple)).toEqual(cells);
        if (form !== 'I' && form !== 'U') expect(valuesOf(decoded.old.cells)).toEqual(cells);
      }),
    );
  });

  test('a row stays as it was when the buffer it came in is overwritten', () => {
    const message = new MessageWriter('I').int32(OID).byte('N').tuple([Buffer.from('abc'), Buffer.from('{"a":1}')]).done();
    const decoded = decoderWith().decode(message) as { tuple: Tuple };
    message.fill(0x58);
    expect(valuesOf(decoded.tuple).map(String)).toEqual(['abc', '{"a":1}']);
  });

  test('the old tuple says what it is: absent, key or full', () => {
    const decoder = decoderWith();
    const row = [Buffer.from('a'), null];
    const update = (): MessageWriter => new MessageWriter('U').int32(OID);
    expect(decoder.decode(update().byte('N').tuple(row).done())).toMatchObject({ old: { kind: 'absent' } });
    expect(decoder.decode(update().byte('K').tuple(row).byte('N').tuple(row).done())).toMatchObject({ old: { kind: 'key' } });
    expect(decoder.decode(update().byte('O').tuple(row).byte('N').tuple(row).done())).toMatchObject({ old: { kind: 'full' } });
  });
});

describe('other messages', () => {
  test('a logical message keeps its prefix, its content and whether it belongs to a transaction', () => {
    const message = new MessageWriter('M').byte(1).int64(5n).text('dify-es.cleanup').int32(3).bytes(Buffer.from('abc')).done();
    expect(new PgoutputDecoder().decode(message)).toEqual({ kind: 'logical-message', transactional: true, prefix: 'dify-es.cleanup', content: Buffer.from('abc') });
  });

  test('a truncate names those of its tables that are ours', () => {
    const decoder = decoderWith();
    decoder.decode(relationMessage(2, 'accounts', ['id']));
    const message = new MessageWriter('T').int32(2).byte(1).int32(2).int32(OID).done();
    expect(decoder.decode(message)).toMatchObject({ kind: 'truncate', relations: [{ oid: OID }] });
  });

  test('origin and type are passed over', () => {
    expect(new PgoutputDecoder().decode(new MessageWriter('O').int64(1n).text('other').done())).toEqual({ kind: 'other' });
    expect(new PgoutputDecoder().decode(new MessageWriter('Y').int32(1).text('s').text('t').done())).toEqual({ kind: 'other' });
  });

  test('a message cut short anywhere is refused with a code, never half believed', () => {
    const decoder = decoderWith();
    const whole = new MessageWriter('I').int32(OID).byte('N').tuple([Buffer.from('abc'), Buffer.from('{"a":1}')]).done();
    for (let length = 0; length < whole.length; length++) {
      expect(() => decoder.decode(whole.subarray(0, length))).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
    }
  });

  test('an unknown kind of message stops the reader: the protocol is not the one that was asked for', () => {
    expect(() => new PgoutputDecoder().decode(Buffer.from('S'))).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
  });
});
