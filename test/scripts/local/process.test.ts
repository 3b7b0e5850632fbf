import { spawn } from 'node:child_process';
import { expect, it } from 'vitest';
import { isAlive, markOf, signal, waitForEnd } from '../../../scripts/local/process.ts';

it('a child that was killed has ended only when its pid is free, which is what PostgreSQL looks at', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  const mark = markOf(child.pid!)!;
  expect(signal(mark, 'SIGKILL')).toBe(true);
  // Without a turn of the event loop nobody reaps it.
  for (const until = performance.now() + 50; performance.now() < until; );
  expect(isAlive(mark)).toBe(true);
  expect(await waitForEnd([mark], 10_000)).toBe(true);
  expect(() => process.kill(child.pid!, 0)).toThrow('ESRCH');
});
