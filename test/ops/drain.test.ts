import { describe, expect, it } from 'vitest';
import { StallWatch, type DrainState } from '../../src/ops/drain.ts';

const LIMITS = { stallMs: 60_000, unattendedMs: 15_000 };
const state = (left: number, attended = true, waitsFor: DrainState['waitsFor'] = 'reader'): DrainState => ({ left: BigInt(left), attended, waitsFor });

describe('waiting for the drain point', () => {
  it('goes on while there is progress, however long it takes', () => {
    const watch = new StallWatch(LIMITS);
    for (let i = 0; i < 100; i++) expect(watch.look(state(1000 - i), i * 50_000)).toBeUndefined();
  });

  it('ends without progress, also when what is left goes up and down', () => {
    const watch = new StallWatch(LIMITS);
    expect(watch.look(state(5), 0)).toBeUndefined();
    expect(watch.look(state(9), 30_000)).toBeUndefined();
    expect(watch.look(state(5), 60_000)).toBeUndefined();
    expect(watch.look(state(6), 60_001)).toBe('6 bytes of WAL are not published, without any progress for 60 s');
  });

  it('ends sooner when nobody is there, and not when somebody comes in time', () => {
    const watch = new StallWatch(LIMITS);
    expect(watch.look(state(5, false), 1_000)).toBeUndefined();
    expect(watch.look(state(5, true), 10_000)).toBeUndefined();
    expect(watch.look(state(5, false), 25_000)).toBeUndefined();
    expect(watch.look(state(5, false), 25_001)).toBe('5 bytes of WAL are not published, and nobody reads the slot');
  });

  it('names the sinks', () => {
    const watch = new StallWatch(LIMITS);
    expect(watch.look(state(7, false, 'sink'), 0)).toBeUndefined();
    expect(watch.look(state(7, false, 'sink'), 15_001)).toBe('7 records are not settled, and the consumer group has no member');
  });
});
