import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { formatCount } from '../../src/cli/format.ts';
import { readEnvFile } from '../local/env-file.ts';
import { LocalFault } from '../local/fault.ts';
import { DEVELOPMENT_SETTINGS, down, reset, up } from '../local/instance.ts';
import { CHECKOUT } from '../local/maven.ts';
import { loadSource, startWriter } from './source.ts';
import { background, end, verb } from './program.ts';
import { closingReport } from './report.ts';

const USAGE = `usage: npm run demo [-- options]

  Starts local servers, fills a Dify database, moves it to Elasticsearch while a writer goes on, and proves both ends equal.

  --exit       stop everything at the end; exit 0 only if both ends were equal
  --runs N     workflow runs to begin with (default 20000, each with its log and 5 node executions)
  --writes N   transactions per second of the live writer (default 50)
  --dir DIR    folder of the servers (default .local); it is emptied first`;

interface DemoOptions {
  readonly exit: boolean;
  readonly runs: number;
  readonly writes: number;
  readonly dir: string;
}

/** What was begun, to be ended in the opposite order; also when somebody presses Ctrl-C in the middle. */
type Begun = (() => Promise<unknown>)[];

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      exit: { type: 'boolean', default: false },
      runs: { type: 'string', default: '20000' },
      writes: { type: 'string', default: '50' },
      dir: { type: 'string', default: join(CHECKOUT, '.local') },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return say(USAGE), 0;
  const options = { exit: values.exit, runs: positive('--runs', values.runs), writes: positive('--writes', values.writes), dir: resolve(process.env['INIT_CWD'] ?? '.', values.dir) };
  const interrupted = new Promise<number>((done) => process.once('SIGINT', () => done(1)).once('SIGTERM', () => done(1)));
  const begun: Begun = [];
  try {
    const code = await Promise.race([demo(options, begun), interrupted]);
    if (!options.exit) await interrupted;
    return code;
  } finally {
    for (const stop of begun.reverse()) await stop().catch(() => undefined);
  }
}

async function demo({ exit, runs, writes, dir }: DemoOptions, begun: Begun): Promise<number> {
  const began = Date.now();

  title('1. Servers: PostgreSQL, Kafka and Elasticsearch as local processes');
  await reset(dir, () => {});
  const starting = up({ dir, only: ['pg', 'kafka', 'es'], postgres: '18', elasticsearch: '9', secure: false, durable: true, ports: {}, settings: DEVELOPMENT_SETTINGS }, say);
  // One that is only just starting is not known to `down` yet.
  begun.push(() => starting.catch(() => undefined).then(() => down(dir, () => {})));
  await starting;
  const env = { ...process.env, ...readEnvFile(join(dir, 'env')), LOG_LEVEL: 'info' };

  title(`2. Dify's tables with ${formatCount(runs)} runs of 5 tenants over 3 months`);
  const loaded = await loadSource(env, runs, say);

  title(`3. A live writer begins (${writes} transactions/s, as Dify writes them) and does not stop until the end`);
  const writer = await startWriter(env, loaded.tenants, writes);
  begun.push(() => writer.stop());

  title('4. dify-es setup');
  const steps: number[] = [(await verb(env, ['setup'])).code];

  title('5. dify-es run: the reader and the sink, in the background');
  const pipeline = background(env, ['run'], join(dir, 'log/dify-es-run.log'));
  begun.push(() => end(pipeline));
  say(`log: ${relative('.', join(dir, 'log/dify-es-run.log'))}`);

  title('6. dify-es migrate: everything that was there before');
  const migrateBegan = Date.now();
  steps.push((await verb(env, ['migrate'])).code);
  const migrateSeconds = (Date.now() - migrateBegan) / 1000;

  title('7. dify-es validate --full: both ends, field by field, while the writer goes on');
  steps.push((await verb(env, ['validate', '--full'])).code);

  title('8. dify-es status');
  await verb(env, ['status']);

  const equal = steps.every((code) => code === 0);
  say(await closingReport(env, { loaded, migrateSeconds, transactions: writer.counts().transactions, totalSeconds: (Date.now() - began) / 1000, equal }));
  if (exit) return equal ? 0 : 1;

  say(`\nEverything stays up until you press Ctrl-C. In another terminal:

  set -a; . ${relative('.', join(dir, 'env'))}; set +a
  bin/dify-es status
  bin/dify-es validate --sample-size 500
  bin/dify-es check
  kill -9 ${pipeline.pid}; bin/dify-es run        # lose the pipeline, start it again, validate: nothing is lost
`);
  return equal ? 0 : 1;
}

function positive(flag: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new LocalFault(`${flag} ${text}: give a whole number above 0`);
  return value;
}

function title(text: string): void {
  say(`\n── ${text}`);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

try {
  // Whatever was interrupted need not come to its end.
  process.exit(await main());
} catch (error) {
  if (!(error instanceof LocalFault) && !(error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS')) throw error;
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 2;
}
