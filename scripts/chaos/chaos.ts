import { parseArgs } from 'node:util';
import { startElasticsearch } from '../local/elasticsearch.ts';
import { startKafka } from '../local/kafka.ts';
import { startPostgres } from '../local/postgres.ts';
import type { LocalServer } from '../local/server.ts';
import { describeFigures, runChaos } from './rounds.ts';

const USAGE = `usage: npm run test:chaos -- --minutes N --seed S [-- options]

  kill -9 of stream, sink, migrate and of the three servers, at random, while a random workload writes; then everything
  is drained and every row compared with its document, again and again. Exit 0 only if every round was equal.

  --minutes N         no round begins after N minutes (default 60); every second one runs without migrate, and there are two at least
  --seed S            default 1
  --round-seconds N   of writing and killing before each comparison (default 180)
  --pause MS,MS       between two kills (default 2000,10000)
  --rate N            operations of the workload a second (default 15)`;

const say = (line: string): void => void process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);

const { values } = parseArgs({
  options: {
    'minutes': { type: 'string', default: '60' }, 'seed': { type: 'string', default: '1' }, 'round-seconds': { type: 'string', default: '180' },
    'pause': { type: 'string', default: '2000,10000' }, 'rate': { type: 'string', default: '15' }, 'help': { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) say(USAGE);
else process.exitCode = await main();

async function main(): Promise<number> {
  const [shortest = 2_000, longest = 10_000] = values.pause.split(',').map(Number);
  const numbers = { seed: Number(values.seed), minutes: Number(values.minutes), roundSeconds: Number(values['round-seconds']), operationsPerSecond: Number(values.rate) };
  const started: LocalServer[] = [];
  const keep = async (server: Promise<LocalServer>): Promise<LocalServer> => {
    started.push(await server);
    return server;
  };
  // A kill of the process, not of the machine: what the kernel has taken survives it, so no fsync is needed.
  const stop = async (): Promise<void> => void (await Promise.allSettled(started.map((server) => server.destroy())));
  const interrupted = (): void => void stop().then(() => process.exit(130));
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    const [pg, kafka, es] = await Promise.all([keep(startPostgres({ durable: false })), keep(startKafka()), keep(startElasticsearch({ heapMb: 512 }))]);
    say(`seed ${numbers.seed}, ${numbers.minutes} minutes`);
    const figures = await runChaos({ pg: pg!, kafka: kafka!, es: es! }, { ...numbers, pauseMs: [shortest, longest], say });
    for (const fault of figures.faults) say(`unexplained end: ${fault}`);
    say(`EQUAL in every round: ${describeFigures(figures)}`);
    return figures.faults.length === 0 ? 0 : 1;
  } catch (error) {
    say(`FAILED: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    say(`repeat it with: npm run test:chaos -- --seed ${numbers.seed} --minutes ${numbers.minutes}`);
    return 1;
  } finally {
    await stop();
  }
}
