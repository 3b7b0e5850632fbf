import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { down, isRunning, status } from '../../../scripts/local/instance.ts';
import { until } from '../../support/pipeline.ts';

const checkout = resolve(import.meta.dirname, '../../..');
const dir = mkdtempSync(join(tmpdir(), 'dify-es-demo-'));
// The servers may run as somebody else.
chmodSync(dir, 0o755);
afterAll(async () => {
  await down(dir, () => {});
  rmSync(dir, { recursive: true, force: true });
});

function demo(args: readonly string[]): { readonly child: ChildProcess; readonly output: () => string; readonly code: Promise<number | null> } {
  const child = spawn(process.execPath, [join(checkout, 'scripts/demo/demo.ts'), '--dir', dir, ...args], { cwd: checkout, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (more: string) => (text += more));
  return { child, output: () => text, code: new Promise((done) => child.once('close', (code) => done(code))) };
}

it('a small one ends with both ends equal, and with no server left', async () => {
  const { output, code } = demo(['--exit', '--runs', '100', '--writes', '20']);
  expect(await code, output()).toBe(0);
  expect(output().trimEnd().split('\n').at(-1)).toBe('equal');
  expect(output()).toMatch(/^backfill {6}7\d\d rows in .* rows\/s/m);
  expect(status(dir).filter(isRunning)).toEqual([]);
}, 400_000);

it('Ctrl-C in the middle of it stops what was begun', async () => {
  const { child, output, code } = demo(['--runs', '100000']);
  await until('the data set is being made', () => output().includes("2. Dify's tables"), 200_000);
  expect(status(dir).filter(isRunning)).toHaveLength(3);
  child.kill('SIGINT');
  expect(await code, output()).toBe(1);
  expect(output()).not.toContain('Error');
  expect(status(dir).filter(isRunning)).toEqual([]);
}, 400_000);

it('a folder of somebody else is left alone', async () => {
  const theirs = join(dir, 'theirs');
  mkdirSync(join(theirs, 'log'), { recursive: true });
  const { output, code } = demo(['--exit', '--dir', theirs]);
  expect(await code).toBe(2);
  expect(output()).toContain('name an empty folder');
});
