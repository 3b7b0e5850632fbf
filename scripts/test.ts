import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalFault } from './local/fault.ts';
import { CHECKOUT } from './local/maven.ts';
import type { Counts, JsonReport } from './test/report.ts';
import { countsOf, failuresOf, sum } from './test/report.ts';
import type { TestServers } from './test/servers.ts';
import { startTestServers } from './test/servers.ts';
import type { Tier } from './test/tiers.ts';
import { select, serversFor, testFiles } from './test/tiers.ts';

/*
 * `npm test [-- [--tier pure,pg,kafka,es,e2e,smoke] [file …] [vitest flags]]`: the tiers one after another, cheapest
 * first, on one set of servers. The last line is `N passed, N failed` and nothing else.
 */
async function main(args: readonly string[]): Promise<Counts> {
  const { tiers, forwarded } = select(args, testFiles(CHECKOUT));
  const given = process.env['DIFY_ES_TEST_ENV'] !== undefined;
  // They start while the pure tests run.
  const starting = given || tiers.every((tier) => tier === 'pure') ? undefined : startTestServers(serversFor(tiers));
  // Noticed when it is awaited.
  starting?.catch(() => undefined);
  const results: Counts[] = [];
  try {
    for (const tier of tiers) {
      if (interrupted.signal.aborted) break;
      const servers = tier === 'pure' ? undefined : await timed('servers', () => starting);
      const { failures, ...result } = await timed(tier, () => runTier(tier, forwarded, servers));
      say(`${tier}: ${result.passed} passed, ${result.failed} failed\n`);
      failed.push(...failures);
      results.push(result);
    }
  } finally {
    await (await starting?.catch(() => undefined))?.stop();
  }
  if (interrupted.signal.aborted) results.push({ passed: 0, failed: 1 });
  return sum(results);
}

async function timed<T>(what: string, work: () => Promise<T> | T): Promise<T> {
  const began = Date.now();
  const result = await work();
  if (Date.now() - began > 50) say(`${what} took ${((Date.now() - began) / 1000).toFixed(1)} s`);
  return result;
}

/** One run of vitest. */
async function runTier(tier: Tier, forwarded: readonly string[], servers: TestServers | undefined): Promise<Counts & { readonly failures: readonly string[] }> {
  const scratch = mkdtempSync(join(tmpdir(), 'dify-es-test-'));
  const file = join(scratch, 'report.json');
  const vitest = join(CHECKOUT, 'node_modules/vitest/vitest.mjs');
  const args = [vitest, 'run', '--project', tier, '--reporter=default', '--reporter=json', `--outputFile.json=${file}`, ...forwarded];
  try {
    const exitCode = await new Promise<number>((resolve, reject) => {
      // Each test file is a process of its own, and compiles the same packages as the one before.
      const env = { NODE_COMPILE_CACHE: join(CHECKOUT, 'node_modules/.cache/dify-es'), ...process.env, ...(servers === undefined ? {} : { DIFY_ES_TEST_ENV: servers.envFile }) };
      const child = spawn(process.execPath, args, { cwd: CHECKOUT, stdio: 'inherit', env });
      // A terminal signals us both; whoever signals this process alone means vitest too.
      interrupted.signal.addEventListener('abort', () => child.kill('SIGTERM'));
      child.once('error', reject);
      child.once('exit', (code) => resolve(code ?? 1));
    });
    const report = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as JsonReport) : undefined;
    return { ...countsOf(report, exitCode), failures: failuresOf(report, CHECKOUT) };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Set by a signal. The servers are stopped before this process ends, and the run counts as failed. */
const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupted.abort());

const failed: string[] = [];
let counts: Counts = { passed: 0, failed: 0 };
try {
  counts = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof LocalFault || error instanceof RangeError) process.stderr.write(`${error.message}\n`);
  else console.error(error);
  counts = { passed: 0, failed: 1 };
}
if (counts.passed === 0 && counts.failed === 0) process.stderr.write('no test was found\n');
if (counts.failed > 0 || counts.passed === 0) process.exitCode = 1;
for (const one of failed) say(`failed: ${one}`);
say(`${counts.passed} passed, ${counts.failed} failed`);
