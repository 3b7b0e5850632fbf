import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ServerKind } from '../local/state.ts';

/** In the order in which they run: the cheapest first. The suffix of a test file tells its tier. `smoke` brings its own servers. */
export const TIERS = ['pure', 'pg', 'kafka', 'es', 'e2e', 'smoke'] as const;
export type Tier = (typeof TIERS)[number];

const NEEDS: Record<Tier, readonly ServerKind[]> = {
  pure: [],
  pg: ['pg'],
  kafka: ['kafka'],
  es: ['es'],
  e2e: ['pg', 'kafka', 'es'],
  // Brings its own: older releases, TLS and passwords.
  smoke: [],
};

/** The tier of a test file by its name; undefined for a file that is no test, or whose suffix no tier knows. */
export function tierOf(file: string): Tier | undefined {
  const match = /\/?([^/]+?)(?:\.([a-z0-9]+))?\.test\.ts$/.exec(file);
  if (!match) return undefined;
  const suffix = match[2];
  return suffix === undefined ? 'pure' : TIERS.find((tier) => tier === suffix && tier !== 'pure');
}

export function serversFor(tiers: readonly Tier[]): readonly ServerKind[] {
  return [...new Set(tiers.flatMap((tier) => NEEDS[tier]))];
}

/** All test files below the folder, relative to the checkout. */
export function testFiles(checkout: string): readonly string[] {
  return readdirSync(join(checkout, 'test'), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.test.ts')).map((file) => join('test', file)).sort();
}

export interface Selection {
  readonly tiers: readonly Tier[];
  /** Handed to vitest as they are: file filters and its own flags. */
  readonly forwarded: readonly string[];
}

/**
 * What `npm test -- …` asks for. `--tier a,b` names tiers; an argument without a dash is a part of file paths, as in
 * vitest, and leaves only the tiers that have such a file. Throws a RangeError for an unknown tier.
 */
export function select(args: readonly string[], files: readonly string[]): Selection {
  const forwarded: string[] = [];
  let named: readonly Tier[] = TIERS;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? '';
    if (arg === '--tier' || arg.startsWith('--tier=')) named = parseTiers(arg === '--tier' ? (args[++i] ?? '') : arg.slice('--tier='.length));
    else forwarded.push(arg);
  }
  const filters = fileFilters(forwarded);
  const chosen = files.filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)));
  return { tiers: named.filter((tier) => chosen.some((file) => tierOf(file) === tier)), forwarded };
}

/** Flags of vitest that take their value as the next argument, which then is no file filter. */
const WITH_VALUE = new Set(['-t', '--testNamePattern', '--reporter', '--retry', '--bail', '--testTimeout', '--hookTimeout', '--maxWorkers', '--shard']);

function fileFilters(args: readonly string[]): readonly string[] {
  return args.filter((arg, i) => !arg.startsWith('-') && !WITH_VALUE.has(args[i - 1] ?? '')).map((arg) => arg.replace(/^\.\//, ''));
}

function parseTiers(text: string): readonly Tier[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.some((name) => !TIERS.some((tier) => tier === name))) throw new RangeError(`--tier ${text}: give some of ${TIERS.join(', ')}`);
  return TIERS.filter((tier) => names.includes(tier));
}
