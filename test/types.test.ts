import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { it } from 'vitest';

const checkout = resolve(import.meta.dirname, '..');

it('the types of sources, tests and scripts hold', async () => {
  const tsc = join(checkout, 'node_modules/typescript/bin/tsc');
  await promisify(execFile)(process.execPath, [tsc, '--project', checkout], { cwd: checkout }).catch((error: { stdout: string }) => {
    throw new Error(error.stdout);
  });
}, 300_000);
