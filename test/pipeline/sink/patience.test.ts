import { describe, expect, test } from 'vitest';
import { Interrupted, Patience, backOffMs } from '../../../src/pipeline/sink/patience.ts';
import type { Trouble, Waiting } from '../../../src/pipeline/sink/patience.ts';

function waiting(more: Partial<Waiting> = {}): { waiting: Waiting; stop: AbortController; troubles: Trouble[]; recoveries: number[] } {
  const stop = new AbortController();
  const troubles: Trouble[] = [];
  const recoveries: number[] = [];
  return { stop, troubles, recoveries, waiting: { heartbeat: () => Promise.resolve(), signal: stop.signal, onTrouble: (trouble) => troubles.push(trouble), onRecovered: () => recoveries.push(1), pace: { firstMs: 10, longestMs: 100 }, ...more } };
}

const failure = { status: 503, type: 'unavailable_shards_exception' };

describe('the pause before an attempt', () => {
  test('doubles up to a limit and is spread', () => {
    const pace = { firstMs: 100, longestMs: 10_000 };
    expect([1, 2, 3, 4].map((attempt) => backOffMs(attempt, 1, pace))).toStrictEqual([100, 200, 400, 800]);
    expect(backOffMs(1_000_000, 1, pace)).toBe(10_000);
    expect(backOffMs(3, 0, pace)).toBe(200);
  });

  test('says what is the matter, and once that it is over', async () => {
    const { waiting: context, troubles, recoveries } = waiting();
    const patience = new Patience(context);
    await patience.pause(failure, 3);
    await patience.pause(failure, 2);
    expect(troubles.map(({ attempt, items, type }) => [attempt, items, type])).toStrictEqual([[1, 3, failure.type], [2, 2, failure.type]]);
    patience.recovered();
    patience.recovered();
    expect(recoveries).toHaveLength(1);
  });

  test('ends at once when the signal comes', async () => {
    const { waiting: context, stop } = waiting({ onTrouble: () => setImmediate(() => stop.abort()) });
    const patience = new Patience(context);
    const pauses = async (): Promise<void> => {
      for (;;) await patience.pause(failure, 1);
    };
    await expect(pauses()).rejects.toThrow(Interrupted);
  });

  test('throws what the heartbeat throws: the group is rebalancing', async () => {
    const { waiting: context } = waiting({ heartbeat: () => Promise.reject(new Error('rebalancing')) });
    await expect(new Patience(context).pause(failure, 1)).rejects.toThrow('rebalancing');
  });
});

describe('a request under way', () => {
  test('is not begun after the signal', async () => {
    const { waiting: context, stop } = waiting();
    stop.abort();
    await expect(new Patience(context).during(() => Promise.resolve(1))).rejects.toThrow(Interrupted);
  });

  test('may end after the signal, since its answer tells what may be committed', async () => {
    const { waiting: context, stop } = waiting();
    expect(await new Patience(context).during(() => (stop.abort(), new Promise((resolve) => setImmediate(() => resolve('answer')))))).toBe('answer');
  });

  test('is given up some time after the signal', async () => {
    const { waiting: context, stop } = waiting();
    const never = (signal: AbortSignal): Promise<never> => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('given up')), { once: true }));
    const ended = new Patience(context).during(never);
    stop.abort();
    await expect(ended).rejects.toThrow('given up');
  });

  test('keeps Kafka alive, and a lost membership is told when it has ended', async () => {
    let end: (value: string) => void = () => undefined;
    const { waiting: context } = waiting({ heartbeat: () => (setImmediate(() => end('done')), Promise.reject(new Error('rebalancing'))) });
    await expect(new Patience(context).during(() => new Promise<string>((resolve) => (end = resolve)))).rejects.toThrow('rebalancing');
  });
});
