import { setTimeout as sleep } from 'node:timers/promises';
import type { LocalServer } from '../local/server.ts';
import { Random } from '../../test/support/dify/random.ts';
import { DIFY_TABLES, createDifySchema } from '../../test/support/dify/schema.ts';
import { Pipeline } from '../../test/support/pipeline.ts';
import { runWorkload } from '../../test/support/workload/workload.ts';
import { KeptProgram, untilDone } from './kept.ts';

export interface ChaosServers {
  readonly pg: LocalServer;
  readonly kafka: LocalServer;
  readonly es: LocalServer;
}

export interface ChaosOptions {
  readonly seed: number;
  /** No round begins after this. */
  readonly minutes: number;
  /** Kills and writes last so long before a round is drained and compared. */
  readonly roundSeconds: number;
  /** Between two kills, at random. */
  readonly pauseMs: readonly [number, number];
  readonly operationsPerSecond: number;
  readonly say: (line: string) => void;
}

export interface ChaosFigures {
  rounds: number;
  minutes: number;
  /** By victim. */
  readonly kills: Record<Victim, number>;
  operations: number;
  /** Operations whose connection broke: nobody knows whether they were committed. */
  lost: number;
  rowChanges: number;
  /** Rows compared with their documents, over all rounds. */
  compared: number;
  migrates: number;
  /** Starts that ended because a server was away. */
  away: number;
  /** How often a reader began a new epoch; 1 is the first start. */
  epochs: number;
  readonly faults: string[];
}

const WEIGHTS = { stream: 30, sink: 30, migrate: 20, pg: 9, kafka: 7, es: 4 } as const;
export type Victim = keyof typeof WEIGHTS;

/** More rows than these would make each comparison longer than the round. */
const KEPT_ROWS = 15_000;

/**
 * Rounds of: write at random, kill at random, then let all come back, drain, and compare every row with its document.
 * What is killed and written follows from the seed; when a kill meets which moment, luck decides. Throws at the first
 * difference.
 */
export async function runChaos(servers: ChaosServers, options: ChaosOptions): Promise<ChaosFigures> {
  const pipeline = new Pipeline({
    ...servers.pg.env, ...servers.kafka.env, ...servers.es.env, KAFKA_PARTITIONS: '3', KAFKA_SESSION_TIMEOUT_MS: '6000', MIGRATE_BATCH_SIZE: '500', LOG_LEVEL: 'info',
  });
  const random = new Random(options.seed);
  const figures: ChaosFigures = { rounds: 0, minutes: 0, kills: { stream: 0, sink: 0, migrate: 0, pg: 0, kafka: 0, es: 0 }, operations: 0, lost: 0, rowChanges: 0, compared: 0, migrates: 0, away: 0, epochs: 0, faults: [] };
  const began = performance.now();
  const minutes = (): number => (performance.now() - began) / 60_000;
  try {
    const db = await pipeline.connect();
    await createDifySchema(db);
    await db.end();
    await pipeline.verb(['setup']);
    while (figures.rounds === 0 || minutes() < options.minutes) {
      await oneRound(pipeline, servers, options, random, figures);
      figures.minutes = minutes();
      options.say(`round ${figures.rounds}: equal. So far ${describeFigures(figures)}`);
    }
    return figures;
  } finally {
    await pipeline.killAll();
  }
}

async function oneRound(pipeline: Pipeline, servers: ChaosServers, options: ChaosOptions, random: Random, figures: ChaosFigures): Promise<void> {
  await thinOut(pipeline);
  const countEpochs = (program: { hasSaid(text: string): boolean }): void => void (program.hasSaid('a full backfill is required') && figures.epochs++);
  const kept = { stream: new KeptProgram(pipeline, ['stream'], countEpochs), sink: new KeptProgram(pipeline, ['sink']), migrate: new KeptProgram(pipeline, ['migrate']) };
  const over = new AbortController();
  const killing = killAtRandom(kept, servers, options, random, figures, over.signal);
  killing.catch(() => undefined);
  const timer = setTimeout(() => over.abort(), options.roundSeconds * 1000);
  const seed = options.seed * 1_000 + figures.rounds;
  const workload = runWorkload({
    connect: pipeline.connect, seed, operations: options.roundSeconds * options.operationsPerSecond, operationsPerSecond: options.operationsPerSecond,
    largeRows: 3_000, bigRowBytes: 400_000, idleMs: 500, reconnectMs: 300_000, signal: over.signal,
  });
  try {
    const { counts } = await workload;
    for (const { issued, rows, lost } of Object.values(counts)) {
      figures.operations += issued;
      figures.rowChanges += rows;
      figures.lost += lost;
    }
  } finally {
    clearTimeout(timer);
    over.abort();
    await killing;
  }
  for (const server of Object.values(servers) as LocalServer[]) await server.start();
  await kept.migrate.last();
  await untilDone(pipeline, ['migrate']);
  figures.migrates += 1;
  await pipeline.drained({ stallMs: 240_000, unattendedMs: 120_000 });
  figures.compared += await pipeline.equal();
  await Promise.all([endNow(kept.stream), endNow(kept.sink)]);
  for (const one of Object.values(kept)) {
    figures.away += one.away;
    figures.faults.push(...one.faults);
  }
  figures.migrates += kept.migrate.finished;
  figures.rounds++;
}

/** The end of a round is no kill of the figures. */
async function endNow(program: KeptProgram): Promise<void> {
  const last = program.last();
  await program.kill();
  await last;
}

async function killAtRandom(kept: Readonly<Record<'stream' | 'sink' | 'migrate', KeptProgram>>, servers: ChaosServers, options: ChaosOptions, random: Random, figures: ChaosFigures, over: AbortSignal): Promise<void> {
  const returning = new Map<Victim, Promise<void>>();
  while (!over.aborted) {
    await sleep(random.int(...options.pauseMs), undefined, { signal: over }).catch(() => undefined);
    if (over.aborted) break;
    const victim = random.weighted(WEIGHTS);
    if (victim === 'stream' || victim === 'sink' || victim === 'migrate') {
      // Mostly at work: on a slow machine nearly all kills would meet a program that is still starting.
      if (!kept[victim].isAtWork() && random.chance(0.8)) continue;
      if (await kept[victim].kill()) figures.kills[victim]++;
      continue;
    }
    // A server that is still coming back is left alone; the two others may be killed meanwhile.
    if (returning.has(victim)) continue;
    const server = servers[victim];
    await server.kill9();
    figures.kills[victim]++;
    const back = sleep(random.int(0, 3_000)).then(() => server.start()).finally(() => returning.delete(victim));
    back.catch((error: unknown) => figures.faults.push(`${victim} did not come back: ${String(error)}`));
    returning.set(victim, back);
  }
  await Promise.allSettled(returning.values());
}

/** Deletes what is too much, which the reader then carries as any other delete. */
async function thinOut(pipeline: Pipeline): Promise<void> {
  const db = await pipeline.connect();
  try {
    for (const table of DIFY_TABLES) await db.query(`DELETE FROM public.${table} WHERE ctid NOT IN (SELECT ctid FROM public.${table} ORDER BY id LIMIT ${Math.floor(KEPT_ROWS / DIFY_TABLES.length)})`);
  } finally {
    await db.end();
  }
}

/** One line of figures. */
export function describeFigures(figures: ChaosFigures): string {
  const kills = Object.values(figures.kills).reduce((sum, count) => sum + count, 0);
  const byVictim = Object.entries(figures.kills).map(([victim, count]) => `${victim} ${count}`).join(', ');
  return `${figures.minutes.toFixed(1)} min, ${figures.rounds} rounds, ${kills} kills (${byVictim}), ${figures.operations} operations (${figures.lost} lost their connection), ${figures.rowChanges} row changes, ${figures.migrates} migrates, ${figures.compared} rows compared, ${figures.away} starts met an absent server, ${figures.epochs} epochs begun, ${figures.faults.length} unexplained ends`;
}
