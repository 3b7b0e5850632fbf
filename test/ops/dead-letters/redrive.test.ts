import { describe, expect, it } from 'vitest';
import { parseLsn } from '../../../src/core/lsn.ts';
import type { RowKey } from '../../../src/core/row-key.ts';
import { versionOfCommit } from '../../../src/core/row-version.ts';
import type { WriteOutcome } from '../../../src/ops/dead-letters/letter-writer.ts';
import type { Boundaries } from '../../../src/ops/validate/expectations.ts';
import { redrive, type RedrivePorts } from '../../../src/ops/dead-letters/redrive.ts';
import type { StoredLetter } from '../../../src/pipeline/kafka/dead-letters.ts';

const TENANT = '11111111-1111-4111-8111-111111111111';
const keyOf = (n: number): RowKey => ({ tenantId: TENANT, createdAt: '2025-10-10 08:25:41', id: `22222222-2222-4222-8222-${String(n).padStart(12, '0')}` });
const VERSION = versionOfCommit(1, parseLsn('0/500'));
const letter = (n: number, more: Partial<StoredLetter> = {}): StoredLetter => ({
  id: `0:${n}`, state: 'open', attempts: 0, at: '', cause: 'refused', detail: '', table: 'workflow_runs', key: keyOf(n), version: VERSION, origin: { stage: 'sink' }, value: Buffer.from('row'), ...more,
});

const KNOWN: Boundaries = { prefix: 'p', switched: new Set(), retention: new Map(), archived: new Map(), accepted: new Set(), deletePolicy: 'apply', truncatedAt: new Map(), epoch: 1 };

/** Ports whose answers a test sets; what was asked of them is kept. */
function ports(letters: readonly StoredLetter[], more: Partial<RedrivePorts> = {}) {
  const asked = { written: [] as string[], resent: [] as string[], tried: new Map<string, string>(), largest: 0 };
  const all: RedrivePorts = {
    letters: {
      async *letters() {
        for (let at = 0; at < letters.length; at += 700) yield letters.slice(at, at + 700);
      },
      tried: async (outcomes) => outcomes.forEach((outcome, id) => asked.tried.set(id, outcome)),
    },
    boundaries: async () => KNOWN,
    places: async (_, ids) => new Map(letters.flatMap(({ key }) => (key && ids.includes(key.id) ? [[key.id, key]] : []))),
    drained: async () => {},
    lastOfTheirKeys: async () => new Set(),
    write: async (some) => {
      asked.largest = Math.max(asked.largest, some.length);
      asked.written.push(...some.map(({ id }) => id));
      return new Map(some.map(({ id }): [string, WriteOutcome] => [id, { kind: 'applied' }]));
    },
    versions: async (addresses) => addresses.map(() => null),
    resend: async (_, ids) => {
      asked.resent.push(...ids);
      return new Set();
    },
    signal: new AbortController().signal,
    ...more,
  };
  return { all, asked };
}

const request = { cause: null, dryRun: false, force: false };
const outcome = (kind: 'stale' | 'failed') => async (some: readonly StoredLetter[]) => new Map(some.map(({ id }): [string, WriteOutcome] => [id, kind === 'failed' ? { kind, cause: 'refused', detail: '' } : { kind }]));

describe('a redrive', () => {
  it('works in batches and leaves out what is settled or of another cause', async () => {
    const letters = Array.from({ length: 1_600 }, (_, n) => letter(n, n % 4 === 0 ? { state: 'accepted' } : n % 4 === 1 ? { cause: 'bad-key' } : {}));
    const { all, asked } = ports(letters);
    expect(await redrive({ ...request, cause: 'refused' }, all)).toMatchObject({ seen: 800, applied: 800 });
    expect(asked.written).toHaveLength(800);
    expect(asked.largest).toBeLessThanOrEqual(500);
    expect([...asked.tried.values()].every((one) => one === 'redriven')).toBe(true);
  });

  it('leaves the letters of a tenant alone that is switched while it runs', async () => {
    const letters = Array.from({ length: 600 }, (_, n) => letter(n));
    let switched = new Set<string>();
    const { all, asked } = ports(letters, { boundaries: async () => ({ ...KNOWN, switched }), onProgress: () => void (switched = new Set([TENANT])) });
    expect(await redrive(request, all)).toMatchObject({ applied: 500, switched: 100 });
    expect(asked.written).toHaveLength(500);
  });

  it('takes no row for deleted before the reader has come to what may be an ignored TRUNCATE', async () => {
    let read = false;
    const { all, asked } = ports([letter(1)], {
      places: async () => new Map(),
      boundaries: async () => ({ ...KNOWN, truncatedAt: read ? new Map([['workflow_runs', parseLsn('0/600')]]) : new Map() }),
      drained: async () => void (read = true),
      lastOfTheirKeys: async (some) => new Set(some.map(({ id }) => id)),
    });
    expect(await redrive(request, all)).toMatchObject({ applied: 1, gone: 0 });
    expect(asked.written).toEqual(['0:1']);
    const stopped = ports([letter(1)], { places: async () => new Map(), drained: () => Promise.reject(new Error('not drained')) });
    await expect(redrive(request, stopped.all)).rejects.toThrow('not drained');
    expect(stopped.asked.tried.size).toBe(0);
  });

  it('keeps a letter that fails again, and counts the attempt', async () => {
    const { all, asked } = ports([letter(1)], { write: outcome('failed') });
    expect(await redrive(request, all)).toMatchObject({ failed: 1, applied: 0 });
    expect(asked.tried).toEqual(new Map([['0:1', 'failed']]));
  });

  it('settles a letter whose document is newer', async () => {
    const { all, asked } = ports([letter(1)], { write: outcome('stale'), versions: async () => [VERSION + 1n] });
    expect(await redrive(request, all)).toMatchObject({ stale: 1 });
    expect(asked.resent).toEqual([]);
  });

  it('asks PostgreSQL where the version is the same, or the document is not there: the transaction had more than one change', async () => {
    for (const version of [VERSION, null]) {
      const { all, asked } = ports([letter(1)], { write: outcome('stale'), versions: async () => [version] });
      expect(await redrive(request, all)).toMatchObject({ reread: 1, stale: 0 });
      expect(asked.resent).toEqual([keyOf(1).id]);
    }
  });

  it('keeps a row that Kafka still cannot take', async () => {
    const { all, asked } = ports([letter(1, { cause: 'row-too-large', value: null })], { resend: async (_, ids) => new Set(ids) });
    expect(await redrive(request, all)).toMatchObject({ failed: 1, reread: 0 });
    expect(asked.tried.get('0:1')).toBe('failed');
  });

  it('touches nothing in a dry run', async () => {
    const { all, asked } = ports([letter(1), letter(2, { cause: 'row-gone', value: null })]);
    expect(await redrive({ ...request, dryRun: true }, all)).toMatchObject({ seen: 2, applied: 1, reread: 1 });
    expect(asked).toMatchObject({ written: [], resent: [], tried: new Map() });
  });

  it('records no attempt for a letter that it leaves alone', async () => {
    const { all, asked } = ports([letter(1), letter(2, { key: null })]);
    const switched = { ...all, boundaries: async () => ({ ...KNOWN, switched: new Set([TENANT]) }) };
    expect(await redrive(request, switched)).toMatchObject({ switched: 1, unreadable: 1 });
    expect(asked.tried.size).toBe(0);
  });
});
