import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ElasticsearchVersion } from '../local/elasticsearch.ts';
import { reset, up } from '../local/instance.ts';
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

const PARENT = join(CHECKOUT, '.local/tests');

/**
 * Starts one set of servers for a whole run, in a folder of its own, so that runs may overlap. The versions may be
 * chosen with DIFY_ES_TEST_PG and DIFY_ES_TEST_ES. With DIFY_ES_TEST_SERVERS=testcontainers they are the containers of
 * docker-compose.yml.
 */
export async function startTestServers(kinds: readonly ServerKind[]): Promise<TestServers> {
  const dir = join(PARENT, `${process.pid}-${randomBytes(3).toString('hex')}`);
  await removeLeftovers();
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'owner.json'), JSON.stringify(markOf(process.pid)));
  if (process.env['DIFY_ES_TEST_SERVERS'] === 'testcontainers') return startContainers(dir);
  const stop = async (): Promise<void> => {
    await reset(dir, () => undefined);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await up({
      dir, only: kinds, secure: false, durable: false, ports: {},
      postgres: (process.env['DIFY_ES_TEST_PG'] ?? '18') as PostgresVersion,
      elasticsearch: (process.env['DIFY_ES_TEST_ES'] ?? '9') as ElasticsearchVersion,
      settings: {
        // Tests force compaction and let transactions time out; the defaults are 15 s and 10 s of waiting for each.
        kafka: { 'log.cleaner.backoff.ms': '500', 'transaction.abort.timed.out.transaction.cleanup.interval.ms': '1000' },
        // Every test file has indices of its own, for several tenants and months.
        es: { 'cluster.max_shards_per_node': '5000' },
      },
    }, () => undefined);
  } catch (error) {
    await stop();
    throw error;
  }
  return { envFile: join(dir, 'env'), stop };
}

/** A run that was killed could not stop its servers: the next one does, by their recorded pids. */
async function removeLeftovers(): Promise<void> {
  if (!existsSync(PARENT)) return;
  for (const name of readdirSync(PARENT)) {
    const dir = join(PARENT, name);
    const owner = readOwner(dir);
    // Without an owner yet: another run is creating it now.
    if (!owner || isAlive(owner)) continue;
    await reset(dir, () => undefined);
    rmSync(dir, { recursive: true, force: true });
  }
}

function readOwner(dir: string): ProcessMark | undefined {
  try {
    return JSON.parse(readFileSync(join(dir, 'owner.json'), 'utf8')) as ProcessMark;
  } catch {
    return undefined;
  }
}
