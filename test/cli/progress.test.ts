import { expect, it } from 'vitest';
import { describeRate, Stopwatch } from '../../src/cli/progress.ts';

const at = (done: number, rows = done * 10) => ({ name: 'runs', done, total: 100, rows, bytes: rows * 1024 });

it('a resumed piece of work has the rate of this run alone, and the time left that follows from it', () => {
  const watch = new Stopwatch(at(80), 0);
  watch.at(at(80), 1_000);
  expect(describeRate(at(90), watch.at(at(90), 11_000))).toBe('900 rows · 10 rows/s · 10.0 kB/s · 10 s left');
});

it('the time that it waited for its turn is no part of its rate', () => {
  const watch = new Stopwatch(at(0), 0);
  for (let second = 1; second <= 600; second++) watch.at(at(0), second * 1_000);
  expect(describeRate(at(50), watch.at(at(50), 605_000))).toBe('500 rows · 100 rows/s · 100.0 kB/s · 5 s left');
});

it('the rate stands still once the work is done', () => {
  const watch = new Stopwatch(at(0), 0);
  expect(describeRate(at(100), watch.at(at(100), 10_000))).toBe('1,000 rows · 100 rows/s · 100.0 kB/s');
  expect(watch.at(at(100), 999_000).seconds).toBe(10);
});

it('nothing that has moved has no rate', () => {
  const watch = new Stopwatch(at(80), 0);
  expect(describeRate(at(80), watch.at(at(80), 5_000))).toBe('800 rows');
});
