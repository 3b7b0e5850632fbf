import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { run } from '../scripts/local/run.ts';

const launcher = resolve(import.meta.dirname, '../bin/dify-es');
const scratch = realpathSync(mkdtempSync(join(tmpdir(), 'dify-es-bin-test-')));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('bin/dify-es', () => {
  it('runs through a chain of links from any folder', async () => {
    symlinkSync(launcher, join(scratch, 'absolute'));
    symlinkSync('absolute', join(scratch, 'relative'));
    const help = await run(join(scratch, 'relative'), ['--help'], { cwd: scratch });
    expect(help.stdout).toContain('dify-es');
    expect(help.status).toBe(0);
  });

  /** A checkout without packages, on a machine whose own Node answers `version`. */
  async function onMachineWithNode(version: string): Promise<{ status: number | null; stderr: string; stdout: string }> {
    const root = mkdtempSync(join(scratch, 'checkout-'));
    mkdirSync(join(root, 'bin'));
    copyFileSync(launcher, join(root, 'bin/dify-es'));
    mkdirSync(join(root, 'path'));
    writeFileSync(join(root, 'path/node'), `#!/bin/sh\necho ${version}\n`);
    chmodSync(join(root, 'path/node'), 0o755);
    const result = await run(join(root, 'bin/dify-es'), ['check'], { cwd: scratch, env: { PATH: `${join(root, 'path')}:/usr/bin:/bin` } });
    return { ...result, stderr: result.stderr.replaceAll(root, 'ROOT') };
  }

  it('says what to do on an older Node without packages', async () => {
    expect(await onMachineWithNode('v20.20.2')).toMatchObject({ status: 2, stdout: '', stderr: 'dify-es: needs Node 24 and its packages: run npm ci in ROOT\n' });
  });

  it('says what to do on Node 24 without packages', async () => {
    expect(await onMachineWithNode('v24.21.0')).toMatchObject({ status: 2, stderr: 'dify-es: its packages are not installed: run npm ci in ROOT\n' });
  });
});
