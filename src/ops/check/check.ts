import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import { DifyEsError } from '../../core/errors.ts';
import { connect } from '../../pipeline/capture/pg-connection.ts';
import { pgTarget } from '../../run/connections.ts';
import { checkElasticsearch } from './elasticsearch/check.ts';
import { fail, type Finding, type ServerName } from './finding.ts';
import { checkKafka } from './kafka/check.ts';
import { checkPostgres } from './postgres/check.ts';
import { expectedIndices } from './postgres/expected-indices.ts';

export interface ServerCheck {
  readonly server: ServerName;
  /** False: nothing could be looked at, and the only finding says why. */
  readonly reached: boolean;
  readonly findings: readonly Finding[];
}

/** Longer than the time limits of the clients, which say better what was waited for. */
const LIMIT_MS = 45_000;

/** Looks at the three servers at the same time; one that does not answer takes nothing from the others. */
export async function checkAll(config: Config, log: Logger, limitMs: number = LIMIT_MS): Promise<ServerCheck[]> {
  const { shards, replicas } = config.elasticsearch;
  const needed = countIndices(config).then((indices) => (indices === null ? null : indices * shards * (1 + replicas)), () => null);
  return Promise.all([
    look('postgresql', () => checkPostgres(config), limitMs),
    look('kafka', () => checkKafka(config, log), limitMs),
    look('elasticsearch', () => checkElasticsearch(config, needed), limitMs),
  ]);
}

async function look(server: ServerName, work: () => Promise<Finding[]>, limitMs: number): Promise<ServerCheck> {
  const ended = new AbortController();
  const late = sleep(limitMs, undefined, { signal: ended.signal }).then(() => {
    throw new DifyEsError(UNREACHABLE[server], `no answer within ${limitMs / 1000} s`);
  });
  late.catch(() => undefined);
  try {
    return { server, reached: true, findings: await Promise.race([work(), late]) };
  } catch (error) {
    if (!(error instanceof DifyEsError) || error.code === 'INTERNAL') throw error;
    return { server, reached: error.exitCode !== 3, findings: [fail('connection', error.message, error.cure)] };
  } finally {
    ended.abort();
  }
}

const UNREACHABLE = { postgresql: 'PG_UNREACHABLE', kafka: 'KAFKA_UNREACHABLE', elasticsearch: 'ES_UNREACHABLE' } as const;

async function countIndices(config: Config): Promise<number | null> {
  const db = await connect(pgTarget(config), { role: 'check', statementTimeoutMs: 5_000 });
  try {
    return await expectedIndices(db, config.postgres.schema);
  } finally {
    await db.end();
  }
}

/** 3: a server was not reached; 1: something is in the way; 0: nothing is, warnings aside. */
export function exitCodeOf(checks: readonly ServerCheck[]): 0 | 1 | 3 {
  if (checks.some(({ reached }) => !reached)) return 3;
  return checks.some(({ findings }) => findings.some(({ level }) => level === 'fail')) ? 1 : 0;
}
