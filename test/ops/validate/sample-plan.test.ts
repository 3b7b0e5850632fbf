import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pick, shareOut } from '../../../src/ops/validate/sample-plan.ts';

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

describe('shareOut', () => {
  it('takes everything where the sample is as large as what there is', () => {
    expect(shareOut(100, [10, 0, 90])).toEqual([10, 0, 90]);
    expect(shareOut(1000, [10, 0, 90])).toEqual([10, 0, 90]);
  });

  it('gives in proportion, and something to the smallest', () => {
    const shares = shareOut(100, [1_000_000, 10, 500_000]);
    expect(shares[1]).toBeGreaterThan(0);
    expect(shares[0]! / shares[2]!).toBeCloseTo(2, 0);
  });

  it('gives exactly the total, never more than a group has, and at least one to each that has any', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 5000 }), fc.array(fc.integer({ min: 0, max: 3000 }), { maxLength: 40 }), (total, sizes) => {
      const shares = shareOut(total, sizes);
      const filled = sizes.filter((size) => size > 0).length;
      expect(sum(shares)).toBe(Math.max(filled, Math.min(total, sum(sizes))));
      shares.forEach((share, i) => {
        expect(share).toBeLessThanOrEqual(sizes[i]!);
        expect(share > 0).toBe(sizes[i]! > 0);
      });
    }));
  });
});

describe('pick', () => {
  it('draws without repetition, each with the same chance', () => {
    const hits = new Array<number>(10).fill(0);
    for (let i = 0; i < 5000; i++) for (const item of new Set(pick([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 3))) hits[item]!++;
    expect(sum(hits)).toBe(15_000);
    for (const hit of hits) expect(hit).toBeGreaterThan(1300);
  });
});
