import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { ELASTICSEARCH_VERSIONS } from './elasticsearch.ts';
import { LocalFault } from './fault.ts';
import type { InstanceOptions } from './instance.ts';
import { DEVELOPMENT_SETTINGS, down, isRunning, reset, status, up } from './instance.ts';
import { CHECKOUT } from './maven.ts';
import { POSTGRES_VERSIONS } from './postgres.ts';
import type { ServerState } from './state.ts';
import { SERVER_KINDS } from './state.ts';

const USAGE = `usage: npm run local -- up|status|down [options]

  up       start PostgreSQL, Kafka and Elasticsearch as local processes, wait until each answers, write DIR/env
  status   what runs, where
  down     stop them; the data stays

  --reset              with up: stop them and remove their data first
  --dir DIR            folder of data, logs and env (default .local); several run side by side
  --only pg,kafka,es   only these
  --pg ${POSTGRES_VERSIONS.join('|')}           version of PostgreSQL (default 18)
  --es ${ELASTICSEARCH_VERSIONS.join('|')}             version of Elasticsearch (default 9)
  --secure             TLS and passwords everywhere
  --no-fsync           faster and not safe against a power cut, for tests
  --pg-port, --kafka-port, --es-port PORT   instead of a free one`;

const OPTIONS = {
  reset: { type: 'boolean', default: false },
  dir: { type: 'string', default: join(CHECKOUT, '.local') },
  only: { type: 'string', default: SERVER_KINDS.join(',') },
  pg: { type: 'string', default: '18' },
  es: { type: 'string', default: '9' },
  secure: { type: 'boolean', default: false },
  'no-fsync': { type: 'boolean', default: false },
  'pg-port': { type: 'string' },
  'kafka-port': { type: 'string' },
  'es-port': { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

async function main(args: readonly string[]): Promise<void> {
  const { values, positionals } = parse(args);
  const verb = positionals[0];
  if (values.help || verb === undefined || positionals.length > 1) return say(USAGE);
  const dir = resolve(process.env['INIT_CWD'] ?? '.', values.dir);
  switch (verb) {
    case 'up': {
      const options = instanceOptions(values, dir);
      if (values.reset) await reset(dir, say);
      const states = await up(options, say);
      say(table(states));
      return say(`variables: . ${relative(process.env['INIT_CWD'] ?? '.', join(dir, 'env'))}`);
    }
    case 'status': {
      const states = status(dir);
      say(states.length === 0 ? 'nothing was started here: npm run local -- up' : table(states));
      process.exitCode = states.length > 0 && states.every(isRunning) ? 0 : 1;
      return;
    }
    case 'down':
      return down(dir, say);
    default:
      throw new LocalFault(`unknown command ${verb}: up, status or down`);
  }
}

type Values = ReturnType<typeof parse>['values'];

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new LocalFault((error as Error).message);
  }
}

function instanceOptions(values: Values, dir: string): InstanceOptions {
  return {
    dir,
    only: values.only.split(',').map((kind) => oneOf('--only', kind.trim(), SERVER_KINDS)),
    postgres: oneOf('--pg', values.pg, POSTGRES_VERSIONS),
    elasticsearch: oneOf('--es', values.es, ELASTICSEARCH_VERSIONS),
    secure: values.secure,
    durable: !values['no-fsync'],
    settings: DEVELOPMENT_SETTINGS,
    ports: Object.fromEntries(SERVER_KINDS.flatMap((kind) => {
      const port = values[`${kind}-port`];
      return port === undefined ? [] : [[kind, portNumber(`--${kind}-port`, port)]];
    })),
  };
}

function oneOf<T extends string>(flag: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new LocalFault(`${flag} ${value}: give one of ${allowed.join(', ')}`);
  return found;
}

function portNumber(flag: string, text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new LocalFault(`${flag} ${text}: give a number from 1 to 65535`);
  return port;
}

function table(states: readonly ServerState[]): string {
  const rows = new Table({ head: ['server', 'version', 'state', 'pid', 'address', 'log'], style: { head: [], border: [] } });
  for (const state of states) {
    const running = isRunning(state);
    rows.push([state.kind, state.version, running ? 'running' : 'stopped', running ? String(state.mark?.pid) : '', state.url.replace(/\/\/.*@/, '//').replace(/\?.*/, ''), relative('.', state.logFile)]);
  }
  return rows.toString();
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof LocalFault)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
