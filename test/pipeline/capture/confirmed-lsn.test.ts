import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Lsn } from '../../../src/core/lsn.ts';
import { ConfirmedLsn } from '../../../src/pipeline/capture/confirmed-lsn.ts';

const lsn = (value: number): Lsn => BigInt(value) as Lsn;
const at = (start = 100, holdMs = 0): ConfirmedLsn => new ConfirmedLsn({ start: lsn(start), holdMs });

describe('commits', () => {
  test('nothing is confirmed before anything has come', () => {
    expect(at().confirmable(0)).toBeNull();
  });

  test('a commit that is received and not durable confirms nothing', () => {
    const line = at();
    line.began();
    line.committed(lsn(200));
    expect(line.confirmable(1_000_000)).toBeNull();
  });

  test('a durable commit is confirmed up to the end of its record', () => {
    const line = at();
    line.began();
    line.committed(lsn(200));
    line.durable(lsn(200), 5);
    expect(line.confirmable(5)).toBe(200n);
  });

  test('a commit behind one that is not durable waits for it', () => {
    const line = at();
    for (const end of [200, 300, 400]) line.committed(lsn(end));
    line.durable(lsn(300), 5);
    expect(line.confirmable(5)).toBe(300n);
    line.durable(lsn(400), 6);
    expect(line.confirmable(6)).toBe(400n);
  });

  test('what was told is not offered again', () => {
    const line = at();
    line.committed(lsn(200));
    line.durable(lsn(200), 5);
    line.told(line.confirmable(5)!);
    expect(line.confirmable(6)).toBeNull();
    expect(line.confirmed).toBe(200n);
  });
});

describe('the hold of topics with one replica', () => {
  test('a commit is confirmed three seconds after Kafka has it, and not a millisecond before', () => {
    const line = at(100, 3_000);
    line.committed(lsn(200));
    line.durable(lsn(200), 10_000);
    expect([line.confirmable(12_999), line.confirmable(13_000)]).toEqual([null, 200n]);
  });

  test('each commit waits for its own three seconds', () => {
    const line = at(100, 3_000);
    line.committed(lsn(200));
    line.durable(lsn(200), 10_000);
    line.committed(lsn(300));
    line.durable(lsn(300), 12_000);
    expect([line.confirmable(13_000), line.isOutstanding, line.confirmable(14_999), line.confirmable(15_000), line.isOutstanding]).toEqual([200n, true, 200n, 300n, false]);
  });

  test('a position behind a held commit waits with it', () => {
    const line = at(100, 3_000);
    line.committed(lsn(200));
    line.durable(lsn(200), 10_000);
    line.position(lsn(900));
    expect([line.confirmable(11_000), line.confirmable(13_000)]).toEqual([null, 900n]);
  });
});

describe('positions of keepalives', () => {
  test('with nothing outstanding a position is confirmed, so that an idle slot moves on', () => {
    const line = at();
    line.position(lsn(500));
    expect(line.confirmable(0)).toBe(500n);
  });

  test('a position behind a commit that is not durable is not', () => {
    const line = at();
    line.committed(lsn(200));
    line.position(lsn(500));
    expect(line.confirmable(0)).toBeNull();
    line.durable(lsn(200), 1);
    expect(line.confirmable(1)).toBe(500n);
  });

  test('a position before a commit does not wait for it', () => {
    const line = at();
    line.position(lsn(150));
    line.committed(lsn(200));
    expect(line.confirmable(0)).toBe(150n);
  });

  test('within a transaction a position says nothing', () => {
    const line = at();
    line.began();
    line.position(lsn(500));
    expect(line.confirmable(0)).toBeNull();
  });

  test('an older position does not take anything back', () => {
    const line = at();
    line.position(lsn(500));
    line.position(lsn(400));
    expect(line.confirmable(0)).toBe(500n);
    line.told(lsn(500));
    line.position(lsn(300));
    expect(line.confirmable(0)).toBeNull();
  });
});

describe('a change that waits for something later in the log', () => {
  test('holds the slot at the beginning of its own commit record, whatever is durable behind it', () => {
    const line = at();
    for (const end of [200, 300, 400]) line.committed(lsn(end));
    line.durable(lsn(400), 5);
    line.waitAt(lsn(250));
    expect(line.confirmable(5)).toBe(250n);
    line.told(lsn(250));
    line.position(lsn(900));
    expect(line.confirmable(6)).toBeNull();
    line.waitAt(null);
    expect(line.confirmable(7)).toBe(900n);
  });
});

type Step = { readonly do: 'transaction' | 'keepalive'; readonly gap: number } | { readonly do: 'durable'; readonly upTo: number } | { readonly do: 'wait'; readonly ms: number } | { readonly do: 'ask' };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('transaction' as const), gap: fc.integer({ min: 1, max: 50 }) }),
  fc.record({ do: fc.constant('keepalive' as const), gap: fc.integer({ min: 0, max: 50 }) }),
  fc.record({ do: fc.constant('durable' as const), upTo: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 4_000 }) }),
  fc.record({ do: fc.constant('ask' as const) }),
);

test('over any timeline: never beyond a commit that is not durable for the whole hold, never back, and in the end everything', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.constantFrom(0, 3_000), (steps, holdMs) => {
      const line = at(100, holdMs);
      const commits: { end: number; durableAt: number | null }[] = [];
      let wal = 100;
      let now = 0;
      let last = lsn(100);
      const ask = (): void => {
        const answer = line.confirmable(now);
        if (answer === null) return;
        const firstUnsafe = commits.find(({ durableAt }) => durableAt === null || now - durableAt < holdMs);
        if (firstUnsafe) expect(answer < lsn(firstUnsafe.end)).toBe(true);
        expect(answer > last).toBe(true);
        line.told((last = answer));
      };
      const settle = (upTo: number): void => {
        const waiting = commits.filter(({ durableAt }) => durableAt === null).slice(0, upTo);
        if (waiting.length === 0) return;
        line.durable(lsn(waiting.at(-1)!.end), now);
        for (const commit of waiting) commit.durableAt = now;
      };
      for (const one of steps) {
        if (one.do === 'transaction') {
          line.began();
          line.committed(lsn((wal += one.gap)));
          commits.push({ end: wal, durableAt: null });
        } else if (one.do === 'keepalive') line.position(lsn((wal += one.gap)));
        else if (one.do === 'durable') settle(one.upTo);
        else if (one.do === 'wait') now += one.ms;
        ask();
      }
      settle(commits.length);
      now += holdMs;
      ask();
      expect(last).toBe(lsn(wal));
      expect(line.isOutstanding).toBe(false);
    }),
    { numRuns: 2_000 },
  );
});
