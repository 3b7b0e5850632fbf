import { defineConfig } from 'vitest/config';

/** The tiers that need servers, by the suffix of the file; scripts/test.ts runs them in its own order. */
const SERVER_TIERS = ['pg', 'kafka', 'es', 'e2e', 'smoke'] as const;

const common = {
  // A process for each file: tests kill, and change their environment.
  pool: 'forks',
  // kafkajs computes timers that lie in the past, of which Node 24 warns on every connection.
  execArgv: ['--disable-warning=TimeoutNegativeWarning'],
  restoreMocks: true,
} as const;

export default defineConfig({
  test: {
    projects: [
      { test: { ...common, name: 'pure', include: ['test/**/*.test.ts'], exclude: SERVER_TIERS.map((tier) => `test/**/*.${tier}.test.ts`), testTimeout: 60_000 } },
      ...SERVER_TIERS.map((tier, order) => ({
        test: {
          ...common,
          name: tier,
          include: [`test/**/*.${tier}.test.ts`],
          ...(tier === 'smoke' ? {} : { globalSetup: ['test/support/global-setup.ts'] }),
          testTimeout: tier === 'e2e' || tier === 'smoke' ? 300_000 : 120_000,
          hookTimeout: 240_000,
          // Files of these tiers run whole programs; side by side they would only wait for each other.
          maxWorkers: tier === 'e2e' || tier === 'smoke' ? 1 : 2,
          sequence: { groupOrder: order + 1 },
        },
      })),
    ],
  },
});
