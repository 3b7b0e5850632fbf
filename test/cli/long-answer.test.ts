import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';

/** Each is a fault of its own, and all are in the answer: more than any pipe holds. */
const IDS = Array.from({ length: 12_000 }, (_, n) => `no-uuid-but-a-long-name-of-nobody-${n}`);

it('an answer that is longer than a pipe is whole, also when its reader begins late', async () => {
  const child = spawn(resolve(import.meta.dirname, '../../bin/dify-es'), ['validate', '--json', '--tenant-id', ...IDS], { cwd: '/', env: { PATH: process.env['PATH'] ?? '' }, stdio: ['ignore', 'pipe', 'ignore'] });
  const exited = once(child, 'exit');
  // One that does not wait for its reader is gone long before.
  await Promise.race([exited, sleep(2_000)]);
  const answer = await text(child.stdout);
  expect(answer.length).toBeGreaterThan(500_000);
  expect((JSON.parse(answer) as { error: { message: string } }).error.message).toContain(IDS.at(-1));
  expect((await exited)[0]).toBe(2);
});
