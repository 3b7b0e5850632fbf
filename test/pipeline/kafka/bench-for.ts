import { onTestFinished } from 'vitest';
import { Bench } from './harness.ts';

/** A bench for one test on the same brokers, closed behind it. */
export function benchFor(shared: Bench, prefix = shared.prefix): Bench {
  const bench = new Bench(shared.brokers, prefix);
  onTestFinished(() => bench.close());
  return bench;
}
