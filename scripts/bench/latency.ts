import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { insertStatement, type TextRow } from '../../test/support/dify/copy.ts';
import { RunMaker } from '../../test/support/dify/generator.ts';
import { settingsFrom } from '../../test/support/oracle/settings.ts';
import type { Installation } from './installation.ts';
import type { Usages } from './processes.ts';
import { percentile } from './statistics.ts';

export interface Spread {
  readonly samples: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Milliseconds. */
export interface LatencyResult {
  readonly rate: number;
  /** What the writer reached: on a busy machine it may not keep up. */
  readonly reached: number;
  /** Of the indices: as the program makes them, or as `cutover --prepare` sets it. A search sees nothing before it. */
  readonly refresh: 'default' | '1s';
  readonly get: Spread;
  /** Null where the interval would be all that is measured. */
  readonly search: Spread | null;
  readonly usages: Usages;
}

const CONNECTIONS = 8;
/** Documents watched each second: enough for a p99 in a minute, few enough not to be the load. */
const GETS_PER_SECOND = 10;
const SEARCHES_PER_SECOND = 1;
const GET_EVERY_MS = 2;
const SEARCH_EVERY_MS = 25;
/** The servers compile the path of single rows anew when they have had nothing but bulks. */
const WARM_UP_SECONDS = 15;
const GIVE_UP_MS = 60_000;

/** Single-row commits at a steady rate, and how long after each watched commit the document is there. */
export async function latency(installation: Installation, refresh: LatencyResult['refresh'], rate: number, seconds: number, seed: number): Promise<LatencyResult> {
  await installation.setup();
  const [stream, sinks] = await Promise.all([installation.pipeline.start('stream'), installation.startSinks()]);
  const pool = new pg.Pool({ ...settingsFrom(installation.pipeline.env).pg, max: CONNECTIONS });
  const rows = makeRows(installation, (seconds + WARM_UP_SECONDS) * rate, seed);
  const warmUp = rows.splice(0, WARM_UP_SECONDS * rate);
  try {
    const searched = refresh === '1s';
    await write(installation, pool, warmUp, rate, searched);
    const meter = installation.meter();
    meter.program('stream', stream.pid);
    for (const { pid } of sinks) meter.program('sink', pid);
    const { gets, searches, took } = await write(installation, pool, rows, rate, searched);
    return { rate, reached: rows.length / took, refresh, get: spreadOf(gets), search: searched ? spreadOf(searches) : null, usages: meter.stop() };
  } finally {
    await pool.end();
  }
}

interface Watched {
  readonly gets: readonly number[];
  readonly searches: readonly number[];
  readonly took: number;
}

async function write(installation: Installation, pool: pg.Pool, rows: readonly TextRow[], rate: number, searched: boolean): Promise<Watched> {
  const [gets, searches, open]: [number[], number[], Promise<void>[]] = [[], [], []];
  const [getEvery, searchEvery] = [Math.max(1, Math.round(rate / GETS_PER_SECOND)), Math.max(1, Math.round(rate / SEARCHES_PER_SECOND))];
  const began = performance.now();
  let lastCommit = began;
  for (const [n, row] of rows.entries()) {
    const due = began + (n * 1000) / rate;
    if (due > performance.now()) await sleep(due - performance.now());
    open.push(commit(n, row));
  }
  await Promise.all(open);
  return { gets, searches, took: (lastCommit - began) / 1000 };

  async function commit(n: number, row: TextRow): Promise<void> {
    const { text, values } = insertStatement('workflow_node_executions', row);
    await pool.query(text, values);
    const committed = performance.now();
    lastCommit = Math.max(lastCommit, committed);
    await Promise.all([
      ...(n % getEvery === 0 ? [watch(() => isReadable(installation, row), GET_EVERY_MS).then((at) => gets.push(at - committed))] : []),
      ...(searched && n % searchEvery === 0 ? [watch(() => isFound(installation, row), SEARCH_EVERY_MS).then((at) => searches.push(at - committed))] : []),
    ]);
  }
}

/** The moment at which the answer that said yes had arrived. */
async function watch(question: () => Promise<boolean>, everyMs: number): Promise<number> {
  const deadline = performance.now() + GIVE_UP_MS;
  while (!(await question())) {
    if (performance.now() > deadline) throw new Error(`a document was not there after ${GIVE_UP_MS / 1000} s`);
    await sleep(everyMs);
  }
  return performance.now();
}

async function isReadable({ ground, prefix }: Installation, row: TextRow): Promise<boolean> {
  const month = (row['created_at'] ?? '').slice(0, 7).replace('-', '.');
  const answer = await fetch(`${ground.elasticsearchUrl}/${prefix}-workflow-node-executions-${row['tenant_id']}-${month}/_doc/${row['id']}?_source=false`);
  await answer.arrayBuffer();
  return answer.status === 200;
}

/** As the reader asks for the nodes of a run. */
async function isFound({ ground, prefix }: Installation, row: TextRow): Promise<boolean> {
  const filter = [{ term: { tenant_id: row['tenant_id'] } }, { term: { workflow_execution_id: row['workflow_run_id'] } }];
  const answer = await fetch(`${ground.elasticsearchUrl}/${prefix}-workflow-node-executions-${row['tenant_id']}-*/_search`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ query: { bool: { filter } }, size: 1, _source: false }),
  });
  const found = (await answer.json()) as { hits?: { total?: { value?: number } } };
  return (found.hits?.total?.value ?? 0) > 0;
}

/** One node of each run, so that each commit is a run of its own to the search. */
function makeRows(installation: Installation, count: number, seed: number): TextRow[] {
  const { tenants, rowSize } = installation.ground.options;
  const maker = new RunMaker({ seed, tenants, rowSize });
  const now = Date.now();
  return Array.from({ length: count }, (_, n) => maker.bundle(n, now).nodes[0]!);
}

function spreadOf(values: readonly number[]): Spread {
  return { samples: values.length, p50: percentile(values, 0.5), p99: percentile(values, 0.99), max: percentile(values, 1) };
}
