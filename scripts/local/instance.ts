import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ElasticsearchVersion } from './elasticsearch.ts';
import { startElasticsearch } from './elasticsearch.ts';
import { everyVariable, writeEnvFile } from './env-file.ts';
import { LocalFault } from './fault.ts';
import { startKafka } from './kafka.ts';
import { withLock } from './lock.ts';
import type { PostgresVersion } from './postgres.ts';
import { startPostgres } from './postgres.ts';
import { isAlive, signal, signalTree, waitForEnd } from './process.ts';
import type { ServerKind, ServerState } from './state.ts';
import { SERVER_KINDS, readState, writeState } from './state.ts';

/** The servers of one folder. Any number of folders run side by side. */
export interface InstanceOptions {
  readonly dir: string;
  readonly only: readonly ServerKind[];
  readonly postgres: PostgresVersion;
  readonly elasticsearch: ElasticsearchVersion;
  readonly secure: boolean;
  readonly durable: boolean;
  readonly ports: Partial<Record<ServerKind, number>>;
  readonly shortLived?: boolean;
  /** Lines of the servers' own configuration, which win over ours. */
  readonly settings?: Partial<Record<ServerKind, Readonly<Record<string, string>>>>;
}

/** A slot that nobody reads must not fill a developer's disk; `check` fails where nothing limits it. */
export const DEVELOPMENT_SETTINGS: NonNullable<InstanceOptions['settings']> = { pg: { max_slot_wal_keep_size: '8GB' } };

const LABELS: Record<ServerKind, string> = { pg: 'PostgreSQL', kafka: 'Kafka', es: 'Elasticsearch' };

/** Starts what does not run yet, writes `<dir>/env` and returns the state of all servers of the folder. */
export async function up(options: InstanceOptions, say: (line: string) => void): Promise<readonly ServerState[]> {
  mkdirSync(join(options.dir, 'run'), { recursive: true });
  return withLock(join(options.dir, 'run/up.lock'), async () => {
    const results = await Promise.allSettled(options.only.map((kind) => ensure(kind, options, say)));
    writeEnv(options.dir);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    return status(options.dir);
  });
}

async function ensure(kind: ServerKind, options: InstanceOptions, say: (line: string) => void): Promise<void> {
  const state = readState(options.dir, kind);
  if (state && isRunning(state)) {
    if (sameAs(state, options)) return say(`${LABELS[kind]} ${state.version} runs already on port ${state.port}`);
    throw new LocalFault(`${LABELS[kind]} ${state.version}${state.secure ? ' (secure)' : ''} runs already in ${options.dir}: npm run local -- down first`);
  }
  const began = Date.now();
  const port = options.ports[kind];
  const common = { dir: options.dir, secure: options.secure, shortLived: options.shortLived ?? false, settings: options.settings?.[kind] ?? {}, ...(port === undefined ? {} : { port }) };
  const server = await {
    pg: () => startPostgres({ ...common, version: options.postgres, durable: options.durable }),
    kafka: () => startKafka(common),
    es: () => startElasticsearch({ ...common, version: options.elasticsearch }),
  }[kind]();
  const moved = state && port === undefined && state.port !== server.port ? `; ${state.port}, which it had before, is taken` : '';
  say(`${LABELS[kind]} ${server.version} answers on port ${server.port} (${((Date.now() - began) / 1000).toFixed(1)} s)${moved}`);
}

function sameAs(state: ServerState, options: InstanceOptions): boolean {
  const version = { pg: options.postgres, es: options.elasticsearch, kafka: state.version }[state.kind];
  const port = options.ports[state.kind];
  return state.version === version && state.secure === options.secure && (port === undefined || port === state.port);
}

function writeEnv(dir: string): void {
  const variables = Object.assign({}, ...status(dir).map((state) => state.env)) as Record<string, string>;
  writeEnvFile(join(dir, 'env'), everyVariable(variables));
}

export function isRunning(state: ServerState): boolean {
  return state.mark !== null && isAlive(state.mark);
}

/** The known servers of the folder, running or not. */
export function status(dir: string): readonly ServerState[] {
  return SERVER_KINDS.map((kind) => readState(dir, kind)).filter((state) => state !== undefined);
}

/** Stops the folder's servers, each by the pid it was started with and only while that is still the same process. */
export async function down(dir: string, say: (line: string) => void): Promise<void> {
  await Promise.all(status(dir).map(async (state) => {
    const { mark, kind } = state;
    if (!mark || !signal(mark, kind === 'pg' ? 'SIGINT' : 'SIGTERM')) say(`${LABELS[kind]} was not running`);
    else {
      signalTree(mark, 'SIGCONT');
      if (!(await waitForEnd([mark], 60_000))) await waitForEnd(signalTree(mark, 'SIGKILL'), 10_000);
      say(`${LABELS[kind]} stopped`);
    }
    writeState(dir, { ...state, mark: null });
  }));
}

const OURS = ['log', 'run', 'tls', 'env'];

/** `up` writes the file also when a server did not start. */
function isOurs(dir: string): boolean {
  const env = join(dir, 'env');
  return status(dir).length > 0 || (existsSync(env) && readFileSync(env, 'utf8').startsWith('export '));
}

/** For a folder that somebody has named: `clear`, after a LocalFault where what is there is not ours. */
export async function reset(dir: string, say: (line: string) => void): Promise<void> {
  const found = OURS.filter((name) => existsSync(join(dir, name)));
  if (found.length > 0 && !isOurs(dir)) throw new LocalFault(`${dir} has a ${found[0]} that is none of ours: name an empty folder`);
  await clear(dir, say);
}

/**
 * Stops the folder's servers and removes their data, the data of other versions too; the cache of software stays. Also
 * where a server was killed before it left a trace in `run` or `env`: its `log` is there already.
 */
export async function clear(dir: string, say: (line: string) => void): Promise<void> {
  await down(dir, say);
  for (const { home } of status(dir)) rmSync(home, { recursive: true, force: true });
  for (const name of OURS) rmSync(join(dir, name), { recursive: true, force: true });
}
