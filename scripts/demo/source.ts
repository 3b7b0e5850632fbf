import pg from 'pg';
import { formatBytes, formatCount } from '../../src/cli/format.ts';
import { loadDataset, monthsUntil, type DatasetCounts } from '../../test/support/dify/generator.ts';
import { startLiveWriter, type LiveWriter } from '../../test/support/dify/live-writer.ts';
import { createDifySchema } from '../../test/support/dify/schema.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const SEED = 20_251_123;
const LOADERS = 2;

function connectTo(env: Environment): () => Promise<pg.Client> {
  return async () => {
    const client = new pg.Client({
      host: env['DB_HOST'], port: Number(env['DB_PORT']), user: env['DB_USERNAME'], password: env['DB_PASSWORD'], database: env['DB_DATABASE'],
    });
    // Whoever waits for an answer is told; without a listener the process would end before the servers are stopped.
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };
}

/** Dify's tables, filled: 5 tenants, the last 3 months, JSON as Dify writes it. */
export async function loadSource(env: Environment, runs: number, say: (line: string) => void): Promise<DatasetCounts> {
  const connect = connectTo(env);
  const clients = await Promise.all(Array.from({ length: LOADERS }, connect));
  try {
    await createDifySchema(clients[0]!);
    const began = Date.now();
    const counts = await loadDataset(clients, { seed: SEED, tenants: 5, runs, months: monthsUntil(new Date().toISOString().slice(0, 7), 3) });
    await clients[0]!.query('ANALYZE');
    say(`${formatCount(counts.totalRows)} rows, ${formatBytes(counts.textBytes)} (${formatBytes(counts.textBytes / counts.totalRows)} a row), in ${((Date.now() - began) / 1000).toFixed(1)} s`);
    return counts;
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

/** Writes for the same tenants, so that stream and backfill meet in the same indices. */
export async function startWriter(env: Environment, tenantIds: readonly string[], writesPerSecond: number): Promise<LiveWriter> {
  const writer = startLiveWriter({ connect: connectTo(env), seed: SEED + 1, tenantIds, writesPerSecond, connections: 2 });
  await writer.reached(1);
  return writer;
}
