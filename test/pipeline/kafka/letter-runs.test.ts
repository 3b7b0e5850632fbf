import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { stateAt, type RunState, withStates } from '../../../src/pipeline/kafka/letter-runs.ts';

const state: fc.Arbitrary<RunState> = fc.oneof(fc.constant('redriven' as const), fc.integer({ min: 1, max: 3 }));
const step = fc.array(fc.tuple(fc.integer({ min: 0, max: 60 }), state), { maxLength: 40 }).map((entries) => new Map(entries));

describe('what redrives did to letters', () => {
  it('is told by the runs as a map would tell it, whatever came in which order', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 6 }), (steps) => {
        const map = new Map<number, RunState>();
        let runs = withStates([], new Map());
        for (const states of steps) {
          runs = withStates(runs, states);
          for (const [offset, value] of states) map.set(offset, value);
        }
        for (let offset = -1; offset <= 61; offset++) expect(stateAt(runs, offset)).toBe(map.get(offset));
        for (const [at, run] of runs.entries()) if (at > 0) expect(run[0]).toBeGreaterThan(runs[at - 1]![1]);
      }),
    );
  });

  it('takes one run for any number of neighbours', () => {
    const states = new Map(Array.from({ length: 4_000 }, (_, offset): [number, RunState] => [offset, 'redriven']));
    expect(withStates([[4_000, 4_100, 'redriven']], states)).toEqual([[0, 4_100, 'redriven']]);
  });
});
