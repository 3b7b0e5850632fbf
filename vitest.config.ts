import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/support/longest-first.ts';

/** The tiers that need servers, by the suffix of the file; scripts/test.ts runs them in its own order. */
const SERVER_TIERS = ['pg', 'kafka', 'es', 'e2e', 'smoke'] as const;

const common = {
  // A process for each file: tests kill, and change their environment.
  pool: 'forks',
  // kafkajs computes timers that lie in the past, of which Node 24 warns on every connection.
  execArgv: ['--disable-warning=TimeoutNegativeWarning'],
  restoreMocks: true,
} as const;

/**
 * Files side by side: most of their time is waiting, for a group to form, for a slot to be confirmed. Two files that use
 * PostgreSQL disturb each other on one server (see scripts/test/servers.ts), so as many run as there are env files.
 */
function workersOf(tier: (typeof SERVER_TIERS)[number]): number {
  const given = process.env['DIFY_ES_TEST_ENV'];
  if ((tier !== 'pg' && tier !== 'e2e') || given === undefined) return 2;
  let workers = 1;
  while (existsSync(`${given}.${workers + 1}`)) workers++;
  return workers;
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      // What has no servers has no state outside of itself either: a process for each file would load the same modules anew.
      { test: { ...common, name: 'pure', isolate: false, maxConcurrency: 20, include: ['test/**/*.test.ts'], exclude: SERVER_TIERS.map((tier) => `test/**/*.${tier}.test.ts`), testTimeout: 60_000 } },
      ...SERVER_TIERS.map((tier, order) => ({
        test: {
          ...common,
          name: tier,
          include: [`test/**/*.${tier}.test.ts`],
          globalSetup: ['test/support/global-setup.ts'],
          // Far above what they take: a limit is there to end what hangs, not to fail a busy machine.
          testTimeout: 300_000,
          hookTimeout: 300_000,
          maxWorkers: workersOf(tier),
          sequence: { groupOrder: order + 1 },
        },
      })),
    ],
  },
});
