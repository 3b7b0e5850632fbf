import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readEnvFile, writeEnvFile } from '../local/env-file.ts';
import type { ElasticsearchVersion } from '../local/elasticsearch.ts';
import { clear, up } from '../local/instance.ts';
import { CHECKOUT } from '../local/maven.ts';
import type { PostgresVersion } from '../local/postgres.ts';
import type { ProcessMark } from '../local/process.ts';
import { isAlive, markOf } from '../local/process.ts';
import type { ServerKind } from '../local/state.ts';
import { startContainers } from './containers.ts';

/** The servers of one test run. */
export interface TestServers {
  /** For DIFY_ES_TEST_ENV. */
  readonly envFile: string;
  stop(): Promise<void>;
}

/** Folders in the run's folder: servers of one test file alone, and each further PostgreSQL. */
export const OWN_PREFIX = 'own-';
const FURTHER_PREFIX = 'further-';

const PARENT = join(CHECKOUT, '.local/tests');

/** How many files run side by side, each with a PostgreSQL of its own; more than processors, since most of their time is waiting. */
const POSTGRES_SERVERS = 3;

/**
 * Starts one set of servers for a whole run, in a folder of its own, so that runs may overlap. PostgreSQL comes once for
 * each test process (env, env.2, env.3): a transaction left open in one file holds up the backfill's barrier and the
 * making of slots in any database of the server. The versions may be chosen with DIFY_ES_TEST_PG and
 * DIFY_ES_TEST_ES. With DIFY_ES_TEST_SERVERS=testcontainers they are the containers of docker-compose.yml.
 */
export async function startTestServers(kinds: readonly ServerKind[]): Promise<TestServers> {
  const dir = join(PARENT, `${process.pid}-${randomBytes(3).toString('hex')}`);
  await removeLeftovers();
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'owner.json'), JSON.stringify(markOf(process.pid)));
  if (process.env['DIFY_ES_TEST_SERVERS'] === 'testcontainers') return startContainers(dir);
  const stop = (): Promise<void> => remove(dir);
  try {
    const further = kinds.includes('pg') ? Array.from({ length: POSTGRES_SERVERS - 1 }, (_, index) => index + 2) : [];
    const folderOf = (number: number): string => join(dir, `${FURTHER_PREFIX}${number}`);
    // All to their end, so that `stop` finds what the one started when the other failed.
    const results = await Promise.allSettled([start(dir, kinds), ...further.map((number) => start(folderOf(number), ['pg']))]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    for (const number of further) writeEnvFile(join(dir, `env.${number}`), { ...readEnvFile(join(dir, 'env')), ...postgresOf(readEnvFile(join(folderOf(number), 'env'))) });
  } catch (error) {
    await stop();
    throw error;
  }
  return { envFile: join(dir, 'env'), stop };
}

function postgresOf(variables: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(variables).filter(([name]) => name.startsWith('DB_')));
}

async function start(dir: string, only: readonly ServerKind[]): Promise<void> {
  await up({
    dir, only, secure: false, durable: false, shortLived: true, ports: {},
    postgres: (process.env['DIFY_ES_TEST_PG'] ?? '18') as PostgresVersion,
    elasticsearch: (process.env['DIFY_ES_TEST_ES'] ?? '9') as ElasticsearchVersion,
    settings: {
      // Tests force compaction and let transactions time out; the defaults are 15 s and 10 s of waiting for each.
      kafka: { 'log.cleaner.backoff.ms': '500', 'transaction.abort.timed.out.transaction.cleanup.interval.ms': '1000' },
      // Every test file has indices of its own, for several tenants and months.
      es: { 'cluster.max_shards_per_node': '5000' },
    },
  }, () => undefined);
}

/** The run's servers, and what its tests started for themselves in folders inside, also when they could not end it. */
async function remove(dir: string): Promise<void> {
  // Another run, which starts at the same time, may have been faster.
  if (!existsSync(dir)) return;
  const inside = readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory() && [FURTHER_PREFIX, OWN_PREFIX].some((prefix) => entry.name.startsWith(prefix)));
  for (const folder of [dir, ...inside.map(({ name }) => join(dir, name))]) await clear(folder, () => undefined);
  rmSync(dir, { recursive: true, force: true });
}

/** A run that was killed could not stop its servers: the next one does, by their recorded pids. */
async function removeLeftovers(): Promise<void> {
  if (!existsSync(PARENT)) return;
  for (const name of readdirSync(PARENT)) {
    const dir = join(PARENT, name);
    const owner = readOwner(dir);
    // Without an owner yet: another run is creating it now.
    if (!owner || isAlive(owner)) continue;
    await remove(dir);
  }
}

function readOwner(dir: string): ProcessMark | undefined {
  try {
    return JSON.parse(readFileSync(join(dir, 'owner.json'), 'utf8')) as ProcessMark;
  } catch {
    return undefined;
  }
}
