import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { everyVariable, readEnvFile, writeEnvFile } from '../../../scripts/local/env-file.ts';
import { clear, reset } from '../../../scripts/local/instance.ts';
import { chooseJava, majorOf } from '../../../scripts/local/java.ts';
import { withLock } from '../../../scripts/local/lock.ts';
import { choosePort, freePort, isFree } from '../../../scripts/local/ports.ts';
import { isAlive, markOf, signal, waitForEnd } from '../../../scripts/local/process.ts';
import { run } from '../../../scripts/local/run.ts';
import { loadConfig, readEnvironment } from '../../../src/config/config.ts';
import { canReach, giveTo, reachableDir, serverUser } from '../../../scripts/local/user.ts';

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

describe('the JDK of a server', () => {
  const found = [{ home: '/jdk25', major: 25 }, { home: '/jdk17', major: 17 }, { home: '/jdk21', major: 21 }, { home: '/empty', major: 0 }];

  it('is the oldest that fits, unless the environment names one that fits', () => {
    expect(chooseJava('Kafka', 17, found, []).home).toBe('/jdk17');
    expect(chooseJava('Elasticsearch', 21, found, ['/jdk17', '/jdk25']).home).toBe('/jdk25');
  });

  it('that does not exist is one line with the cure', () => {
    expect(() => chooseJava('Elasticsearch 9.5.3', 26, found, [])).toThrow('Elasticsearch 9.5.3 needs a JDK of version 26 or later (found: 25, 17, 21): install one, or set DIFY_ES_JAVA_HOME to its folder');
    expect(() => chooseJava('Kafka', 17, [], [])).toThrow('(found: none)');
  });

  it('has as version its first number, the second one in the old scheme', () => {
    expect(['"17.0.15"', '25', '1.8.0_402', '21-ea', 'none'].map(majorOf)).toEqual([17, 25, 8, 21, undefined]);
  });
});

it('Maven that is missing is one line with the cure', async () => {
  const script = resolve(import.meta.dirname, '../../../scripts/local/cli.ts');
  const bin = join(scratch, 'bin');
  mkdirSync(bin);
  const env = { PATH: bin, DIFY_ES_SERVER_CACHE: join(scratch, 'cache') };
  const result = await run(process.execPath, ['--disable-warning=TimeoutNegativeWarning', script, 'up', '--only', 'kafka', '--dir', join(scratch, 'no-maven')], { env });
  expect(result.stderr).toBe('Maven (mvn) is not on the PATH: install it (Debian: apt install maven, macOS: brew install maven)\n');
  expect(result.status).toBe(1);
});

describe('as root', () => {
  it('the servers run as a user that exists', () => {
    const asRoot = process.getuid?.() === 0;
    expect(serverUser('root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\n')).toEqual(asRoot ? { uid: 65534, gid: 65533 } : undefined);
    if (asRoot) expect(() => serverUser('root:x:0:0::/root:/bin/sh\n')).toThrow('has no user nobody: set DIFY_ES_SERVER_USER to one that exists');
  });

  it.runIf(process.getuid?.() === 0)('a folder that the server\'s user cannot enter is replaced by the same one each time', () => {
    const user = serverUser();
    const hidden = join(scratch, 'hidden');
    mkdirSync(hidden);
    chmodSync(hidden, 0o700);
    const stand = reachableDir(join(hidden, 'data'), user);
    expect(stand.startsWith(scratch)).toBe(false);
    expect(canReach(stand, user)).toBe(true);
    giveTo(stand, user);
    expect(reachableDir(join(hidden, 'data'), user)).toBe(stand);
    rmSync(stand, { recursive: true });
  });
});

describe('the file of variables', () => {
  it('leaves nothing to a .env of the working directory, which may name servers in production', () => {
    const dotenv = join(scratch, 'production.env');
    writeFileSync(dotenv, ['DATABASE_URL=postgresql://dify:secret@production/dify', 'ELASTICSEARCH_API_KEY_FILE=/run/secrets/key', 'CDC_SLOT=theirs', ''].join('\n'));
    const local = everyVariable({ DB_HOST: '127.0.0.1' });
    expect(readEnvironment(local, dotenv)).toEqual(local);
    expect(loadConfig(readEnvironment(local, dotenv))).toEqual(loadConfig({ DB_HOST: '127.0.0.1' }));
  });
});

describe('reset', () => {
  it('touches nothing in a folder of somebody else', async () => {
    const dir = join(scratch, 'theirs');
    mkdirSync(join(dir, 'log'), { recursive: true });
    mkdirSync(join(dir, 'run'));
    writeFileSync(join(dir, 'log/app.log'), 'theirs');
    await expect(reset(dir, () => {})).rejects.toThrow(`${dir} has a log that is none of ours: name an empty folder`);
    expect(existsSync(join(dir, 'log/app.log'))).toBe(true);
  });
});

describe('clear', () => {
  it('removes what a server left that was killed before it left more than its log: the next test run must begin', async () => {
    const dir = join(scratch, 'killed');
    mkdirSync(join(dir, 'log'), { recursive: true });
    await clear(dir, () => {});
    expect(existsSync(join(dir, 'log'))).toBe(false);
  });
});
