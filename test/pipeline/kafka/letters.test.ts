import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEAD_LETTER_CAUSES, type DeadLetter } from '../../../src/core/contracts.ts';
import { parseVersion } from '../../../src/core/row-version.ts';
import { letterRecord, parseLetter } from '../../../src/pipeline/kafka/letter-format.ts';

const text = fc.string({ unit: 'grapheme' });
const letter: fc.Arbitrary<DeadLetter> = fc.record({
  cause: fc.constantFrom(...DEAD_LETTER_CAUSES),
  detail: text,
  table: fc.constantFrom('workflow_runs' as const, 'workflow_app_logs' as const),
  key: fc.option(fc.record({ tenantId: text, createdAt: text, id: text }), { nil: null }),
  version: fc.option(fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }).map((digits) => parseVersion(digits.toString())), { nil: null }),
  origin: fc.constant({ stage: 'sink' as const, topic: 't', partition: 3, offset: '9007199254740993', lsn: '16/B374D848' }),
  value: fc.option(fc.uint8Array().map((bytes) => Buffer.from(bytes)), { nil: null }),
});
const at = new Date('2025-10-10T08:25:41.123Z');

describe('a dead letter', () => {
  it('comes back from its topic unchanged, with every digit of its version and every byte of its value', () => {
    fc.assert(
      fc.property(letter, (one) => {
        const { headers, value } = letterRecord(one, at);
        const wire = Object.fromEntries(Object.entries(headers!).map(([name, header]) => [name, Buffer.from(header)]));
        expect(parseLetter(wire, value as Buffer | null)).toEqual({ ...one, at: '2025-10-10T08:25:41.123Z' });
      }),
    );
  });

  it('holds no value of the row outside of its value', () => {
    const { key, headers } = letterRecord({ cause: 'refused', detail: 'mapper_parsing_exception', table: 'workflow_runs', key: null, version: null, origin: { stage: 'sink' }, value: Buffer.from('secret words') }, at);
    expect(JSON.stringify([key, headers])).not.toContain('secret');
  });

  it('is not made of a foreign record', () => {
    for (const header of ['', 'null', '{}', '{"cause":"nonsense","table":"workflow_runs"}', '{"cause":"refused","table":"pg_class"}', '{"cause":"refused","table":"workflow_runs","version":"-1"}']) {
      expect(parseLetter({ letter: Buffer.from(header) }, null)).toBeUndefined();
    }
    expect(parseLetter({}, null)).toBeUndefined();
  });
});
