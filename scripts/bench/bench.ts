import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { resolve } from 'node:path';
import { readEnvFile } from '../local/env-file.ts';
import { LocalFault } from '../local/fault.ts';
import { down, reset, up } from '../local/instance.ts';
import type { ServerKind, ServerState } from '../local/state.ts';
import type { Ground } from './installation.ts';
import { measureSize, type SizeResult } from './measure.ts';
import { readOptions, USAGE, type BenchOptions } from './options.ts';
import { describeGrowth, describeSize, figuresOf, limitOf } from './report.ts';
import { startSlow, type SlowElasticsearch } from './slow.ts';

const SCALES = [1, 3, 10];

async function main(args: readonly string[]): Promise<void> {
  const given = readOptions(args);
  if (!given) return say(USAGE);
  const options = { ...given, dir: resolve(process.env['INIT_CWD'] ?? '.', given.dir) };
  const loadBefore = loadavg();
  await reset(options.dir, () => {});
  const starting = up({ dir: options.dir, only: ['pg', 'kafka', 'es'], postgres: '18', elasticsearch: '9', secure: false, durable: true, ports: {} }, say);
  // Servers outlive whoever started them, and one that is only just starting is not known to `down` yet.
  const stopAll = (): Promise<void> => starting.then(() => undefined, () => undefined).then(() => down(options.dir, () => {}));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void stopAll().finally(() => process.exit(1)));
  let slow: SlowElasticsearch | undefined;
  try {
    const servers = await starting;
    const esUrl = servers.find(({ kind }) => kind === 'es')!.url;
    if (options.answerDelayMs > 0) slow = await startSlow(esUrl, options.answerDelayMs);
    const sizes = options.scale ? SCALES.map((scale) => options.rows * scale) : [options.rows];
    const results: SizeResult[] = [];
    for (const rows of sizes) results.push(await measureSize(groundOf(options, servers, slow?.url ?? esUrl, rows), rows, !options.scale, say));
    for (const result of results) say(`\n${describeSize(result)}`);
    if (results.length > 1) say(`\n${describeGrowth(results)}`);
    say(`\nload of the machine (1, 5, 15 min): ${loads(loadBefore)} before, ${loads(loadavg())} after; ${cpus().length} cores`);
    if (options.json === undefined) return;
    const file = resolve(process.env['INIT_CWD'] ?? '.', options.json);
    const summary = results.map((result) => ({ limitRowsPerSecond: limitOf(result), figures: figuresOf(result), ...result }));
    writeFileSync(file, `${JSON.stringify({ options: { ...given, dir: undefined, json: undefined }, cores: cpus().length, loadBefore, loadAfter: loadavg(), sizes: summary }, null, 2)}\n`);
  } finally {
    slow?.close();
    await stopAll();
  }
}

/** Each size has a database of its own, so that the rows of one are not in the way of the next. */
function groundOf(options: BenchOptions, servers: readonly ServerState[], elasticsearchUrl: string, rows: number): Ground {
  const stateOf = (kind: ServerKind): ServerState => servers.find((server) => server.kind === kind)!;
  const pid = (kind: ServerKind): number => stateOf(kind).mark?.pid ?? 0;
  return {
    env: { ...readEnvFile(resolve(options.dir, 'env')), DB_DATABASE: `bench_${rows}`, ELASTICSEARCH_HOSTS: JSON.stringify([elasticsearchUrl]) },
    pids: { pg: pid('pg'), kafka: pid('kafka'), es: pid('es') },
    options,
    elasticsearchUrl,
    kafkaHome: stateOf('kafka').home,
  };
}

const loads = (values: readonly number[]): string => values.map((value) => value.toFixed(1)).join(' ');

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

try {
  await main(process.argv.slice(2));
  // kafkajs keeps timers for a while.
  process.exit();
} catch (error) {
  process.stderr.write(`${error instanceof LocalFault ? error.message : (error as Error).stack}\n`);
  process.exit(error instanceof LocalFault ? 2 : 1);
}
