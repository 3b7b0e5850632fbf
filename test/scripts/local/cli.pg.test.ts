import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';

/* `npm run local` as a person types it, with the one server that starts in a second. One story. */
const home = mkdtempSync(join(tmpdir(), 'dify-es-local-cli-'));
const dir = join(home, 'servers');

interface Answer {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function local(...args: string[]): Promise<Answer> {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../../../scripts/local/cli.ts'), ...args], { cwd: home, env: { ...process.env, INIT_CWD: home }, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

afterAll(async () => {
  await local('down', '--dir', dir);
  rmSync(home, { recursive: true, force: true });
});

it('says what to do where nothing was started', async () => {
  expect(await local('status', '--dir', dir)).toMatchObject({ code: 1, stdout: expect.stringContaining('npm run local -- up') });
});

it('starts what was asked for, writes its variables, and starts nothing twice', async () => {
  const first = await local('up', '--only', 'pg', '--dir', dir);
  expect(first, first.stderr).toMatchObject({ code: 0, stdout: expect.stringContaining('variables: . servers/env') });
  expect(readFileSync(join(dir, 'env'), 'utf8')).toMatch(/^export DB_PORT=/m);
  const pid = /running\D+(\d+)/.exec((await local('status', '--dir', dir)).stdout)?.[1];
  expect(Number(pid)).toBeGreaterThan(1);
  expect((await local('up', '--only', 'pg', '--dir', dir)).stdout).toContain(pid!);
});

it('stops what it has started, and says so', async () => {
  expect(await local('down', '--dir', dir)).toMatchObject({ code: 0 });
  expect(await local('status', '--dir', dir)).toMatchObject({ code: 1, stdout: expect.stringContaining('stopped') });
});

it.each([
  [['frobnicate'], 'unknown command frobnicate: up, status or down'],
  [['up', '--only', 'mysql'], '--only mysql: give one of pg, kafka, es'],
  [['up', '--pg', '9'], '--pg 9: give one of'],
  [['up', '--pg-port', '99999'], '--pg-port 99999: give a number from 1 to 65535'],
  [['up', '--bogus'], '--bogus'],
])('%j is one line, and nothing is begun', async (args, message) => {
  const elsewhere = join(home, 'elsewhere');
  const { code, stderr } = await local(...args, '--dir', elsewhere);
  expect(code).toBe(1);
  expect(stderr).toContain(message);
  expect(stderr).not.toMatch(/^ {4}at /m);
  expect(existsSync(elsewhere)).toBe(false);
});

it('a taken port is one line with the cure', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const { code, stderr } = await local('up', '--only', 'pg', '--dir', join(home, 'other'), '--pg-port', String(port));
  taken.close();
  expect(code).toBe(1);
  expect(stderr).toMatch(new RegExp(`${port}.*(taken|in use)`));
  expect(stderr).not.toMatch(/^ {4}at /m);
});
