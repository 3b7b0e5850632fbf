import { join } from 'node:path';
import pg from 'pg';
import { createDatabase } from '../../test/support/server-cleanup.ts';
import { loadDataset, monthsUntil, type DatasetCounts } from '../../test/support/dify/generator.ts';
import { createDifySchema } from '../../test/support/dify/schema.ts';
import { settingsFrom } from '../../test/support/oracle/settings.ts';
import { Installation, type Ground } from './installation.ts';
import { latency, type LatencyResult } from './latency.ts';
import { bestOf, rawBulk, sweep, type RawResult } from './raw.ts';
import { catchUp, endToEnd, kafkaThenReplay, recordDocuments, type RoundResult } from './rounds.ts';

export interface Pair {
  readonly raw: RawResult;
  readonly endToEnd: RoundResult;
  readonly kafka: RoundResult;
  readonly replay: RoundResult;
}

export interface SizeResult {
  readonly rows: number;
  readonly textBytes: number;
  readonly before: readonly RawResult[];
  readonly pairs: readonly Pair[];
  readonly catchUps: readonly RoundResult[];
  readonly latencies: readonly LatencyResult[];
  readonly after: readonly RawResult[];
}

const SEED = 20_251_123;
const LOADERS = 2;
/** Half of Kafka's CPU in its first rounds is the JVM's compiler. */
const WARM_UP_PAIRS = 1;
/** Per run: the run, its log, five nodes and a share of an offload row. */
const ROWS_PER_RUN = 7.1;

/** All figures of one size, in a database of its own. `live`: the catch-up and the latency too. */
export async function measureSize(ground: Ground, rows: number, live: boolean, say: (line: string) => void): Promise<SizeResult> {
  const { options } = ground;
  const file = join(options.dir, `documents-${rows}.ndjson`);
  const loaded = await loadSource(ground, rows);
  let count = 0;
  const open = (extra: Readonly<Record<string, string>> = {}): Installation => new Installation(ground, `bench-${rows}-${String(count++).padStart(3, '0')}`, extra);
  const alone = async <T>(work: (installation: Installation) => Promise<T>, extra: Readonly<Record<string, string>> = {}): Promise<T> => {
    const installation = open(extra);
    try {
      return await work(installation);
    } finally {
      await installation.remove();
    }
  };

  const { installation: prepared, ...data } = await recordDocuments(open, ground.elasticsearchUrl, file);
  try {
    say(`${data.rows} rows, ${Math.round(data.bytes / data.rows)} bytes of text a row; their documents are recorded`);
    say('raw _bulk, every setting');
    const before = await sweep(prepared, file, options.sweep);
    const { megabytes, connections } = bestOf(before);
    const pairs: Pair[] = [];
    for (let n = -WARM_UP_PAIRS; n < options.pairs; n++) {
      // In turns: what gets slower or faster with time must not favour one of them.
      const rawFirst = n % 2 === 0;
      const early = rawFirst ? await rawBulk(prepared, file, { megabytes, connections }) : undefined;
      const both = { endToEnd: await alone(endToEnd), ...(await alone(kafkaThenReplay)) };
      const raw = early ?? (await rawBulk(prepared, file, { megabytes, connections }));
      if (n >= 0) pairs.push({ raw, ...both });
      say(`${n >= 0 ? `pair ${n + 1}` : 'a pair that does not count'}: raw ${rate(raw)}, end to end ${rate(both.endToEnd)}, Kafka ${rate(both.kafka)}, replay ${rate(both.replay)}`);
    }
    const catchUps: RoundResult[] = [];
    for (let n = 0; live && options.changes > 0 && n < options.pairs; n++) {
      catchUps.push(await alone((installation) => catchUp(installation, loaded.tenants, options.changes)));
      say(`catch-up ${n + 1}: ${rate(catchUps[n]!)}`);
    }
    const latencies: LatencyResult[] = [];
    for (const refresh of live ? (['default', '1s'] as const) : []) {
      for (const writes of options.rates) {
        const settings = refresh === 'default' ? {} : { ELASTICSEARCH_INDEX_REFRESH: refresh };
        const found = await alone((installation) => latency(installation, refresh, writes, options.seconds, SEED + 100 + latencies.length), settings);
        latencies.push(found);
        say(`latency at ${writes} writes/s, refresh interval ${refresh}: p50 ${found.get.p50.toFixed(1)} ms by GET`);
      }
    }
    say('raw _bulk once more, every setting');
    return { rows: data.rows, textBytes: data.bytes, before, pairs, catchUps, latencies, after: await sweep(prepared, file, options.sweep) };
  } finally {
    await prepared.remove();
  }
}

async function loadSource(ground: Ground, rows: number): Promise<DatasetCounts> {
  const { tenants, rowSize } = ground.options;
  await createDatabase(ground.env);
  const clients = Array.from({ length: LOADERS }, () => new pg.Client(settingsFrom(ground.env).pg));
  await Promise.all(clients.map((client) => client.connect()));
  try {
    await createDifySchema(clients[0]!);
    const counts = await loadDataset(clients, { seed: SEED, tenants, rowSize, runs: Math.ceil(rows / ROWS_PER_RUN), months: monthsUntil('2026-06', 3) });
    await clients[0]!.query('VACUUM (ANALYZE)');
    await clients[0]!.query('CHECKPOINT');
    return counts;
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

const rate = ({ rowsPerSecond }: { readonly rowsPerSecond: number }): string => `${Math.round(rowsPerSecond)}/s`;
