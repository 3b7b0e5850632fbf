import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readEnvFile, writeEnvFile } from '../../../scripts/local/env-file.ts';
import { majorOf } from '../../../scripts/local/java.ts';
import { withLock } from '../../../scripts/local/lock.ts';
import { choosePort, freePort, isFree } from '../../../scripts/local/ports.ts';
import { isAlive, markOf, signal, waitForEnd } from '../../../scripts/local/process.ts';
import { run } from '../../../scripts/local/run.ts';

const scratch = mkdtempSync(join(tmpdir(), 'dify-es-local-test-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('ports', () => {
  it('refuse a taken one with the cure in the message', async () => {
    const taken = createServer();
    await once(taken.listen(0, '127.0.0.1'), 'listening');
    const { port } = taken.address() as AddressInfo;
    expect(await isFree(port)).toBe(false);
    await expect(choosePort('Kafka', '--kafka-port', port, undefined)).rejects.toThrow(`port ${port} for Kafka is taken: stop what listens there, or give another with --kafka-port`);
    expect(await choosePort('Kafka', '--kafka-port', undefined, port)).not.toBe(port);
    taken.close();
  });

  it('are the same as last time while that one is free', async () => {
    const last = await freePort();
    expect(await choosePort('Kafka', '--kafka-port', undefined, last)).toBe(last);
  });
});

describe('a process mark', () => {
  it('fits while the process lives, and signals it', async () => {
    const child = spawn('sleep', ['600']);
    const mark = markOf(child.pid ?? 0);
    expect(mark && isAlive(mark)).toBe(true);
    expect(mark && signal(mark, 'SIGTERM')).toBe(true);
    expect(mark && (await waitForEnd([mark], 20_000))).toBe(true);
    expect(mark && signal(mark, 'SIGTERM')).toBe(false);
  });

  it('never reaches another process that got the same pid', () => {
    const other = { pid: process.pid, started: 'another moment' };
    expect(isAlive(other)).toBe(false);
    expect(signal(other, 'SIGKILL')).toBe(false);
  });
});

describe('the env file', () => {
  const variables = { ELASTICSEARCH_HOSTS: '["http://127.0.0.1:9200"]', DB_PASSWORD: "it's $HOME `x` \"y\" \\ end", EMPTY: '' };

  it('reads back as it was written', () => {
    const file = join(scratch, 'env');
    writeEnvFile(file, variables);
    expect(readEnvFile(file)).toEqual(variables);
  });

  it('gives a shell the same values', async () => {
    const file = join(scratch, 'env-for-sh');
    writeEnvFile(file, variables);
    const shell = await run('/bin/sh', ['-c', `. "$0"; printf '%s|%s|%s' "$ELASTICSEARCH_HOSTS" "$DB_PASSWORD" "$EMPTY"`, file]);
    expect(shell.stdout).toBe(Object.values(variables).join('|'));
  });
});

describe('the lock', () => {
  it('lets one in at a time', async () => {
    const file = join(scratch, 'one.lock');
    let inside = 0;
    let most = 0;
    await Promise.all([1, 2, 3].map(() => withLock(file, async () => {
      most = Math.max(most, ++inside);
      await new Promise(setImmediate);
      inside--;
    })));
    expect(most).toBe(1);
  });

  it('is taken over from a holder that is gone', async () => {
    const file = join(scratch, 'stale.lock');
    const gone = spawn('true');
    await once(gone, 'exit');
    writeFileSync(file, `${gone.pid}\n`);
    expect(await withLock(file, () => Promise.resolve('mine'))).toBe('mine');
  });
});

describe('the version of a JDK', () => {
  it('is its first number, the second one for the old scheme', () => {
    expect(['"17.0.15"', '25', '1.8.0_402', '21-ea', 'none'].map(majorOf)).toEqual([17, 25, 8, 21, undefined]);
  });
});
