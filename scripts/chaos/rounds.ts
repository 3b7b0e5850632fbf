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
  /** No round begins after this; there are two in any case, since they differ. */
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
  /** Of these, the rounds in which no migrate ran. */
  roundsOfTheStreamAlone: number;
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
  /** Killed at the end of a round, and finished by another after the comparison. */
  resumed: number;
  /** Starts that ended because a server was away. */
  away: number;
  /** How often a reader began a new epoch. Setup records the first one, and no kill is a reason for another. */
  epochs: number;
  readonly faults: string[];
}

const WEIGHTS = { stream: 30, sink: 30, migrate: 20, pg: 9, kafka: 7, es: 4 } as const;
export type Victim = keyof typeof WEIGHTS;

/** Rows that differ, at most, whose traces are said. */
const TRACED = 5;

/** More rows than these would make each comparison longer than the round. */
const KEPT_ROWS = 15_000;

/**
 * Rounds of: write at random, kill at random, then let all come back, drain, and compare every row with its document.
 * In every second round nothing but stream and sink runs: a migrate would bring again what the reader has lost. In the
 * others migrate runs beside them again and again, and none runs between the last kill and the comparison.
 * What is killed and written follows from the seed; when a kill meets which moment, luck decides. Throws at the first
 * difference.
 */
export async function runChaos(servers: ChaosServers, options: ChaosOptions): Promise<ChaosFigures> {
  const pipeline = new Pipeline({
    ...servers.pg.env, ...servers.kafka.env, ...servers.es.env, KAFKA_PARTITIONS: '3', KAFKA_SESSION_TIMEOUT_MS: '6000', MIGRATE_BATCH_SIZE: '500', LOG_LEVEL: 'info',
  });
  const random = new Random(options.seed);
  const figures: ChaosFigures = { rounds: 0, roundsOfTheStreamAlone: 0, minutes: 0, kills: { stream: 0, sink: 0, migrate: 0, pg: 0, kafka: 0, es: 0 }, operations: 0, lost: 0, rowChanges: 0, compared: 0, migrates: 0, resumed: 0, away: 0, epochs: 0, faults: [] };
  const began = performance.now();
  const minutes = (): number => (performance.now() - began) / 60_000;
  try {
    const db = await pipeline.connect();
    await createDifySchema(db);
    await db.end();
    await pipeline.verb(['setup']);
    while (figures.rounds < 2 || minutes() < options.minutes) {
      const withMigrate = figures.rounds % 2 === 0;
      await oneRound(pipeline, servers, options, random, figures, withMigrate);
      figures.minutes = minutes();
      options.say(`round ${figures.rounds}, ${withMigrate ? 'with migrate' : 'stream and sink alone'}: equal. So far ${describeFigures(figures)}`);
    }
    return figures;
  } finally {
    await pipeline.killAll();
  }
}

async function oneRound(pipeline: Pipeline, servers: ChaosServers, options: ChaosOptions, random: Random, figures: ChaosFigures, withMigrate: boolean): Promise<void> {
  await thinOut(pipeline);
  const countEpochs = (program: { hasSaid(text: string): boolean }): void => void (program.hasSaid('a full backfill is required') && figures.epochs++);
  const kept: Kept = { stream: new KeptProgram(pipeline, ['stream'], countEpochs), sink: new KeptProgram(pipeline, ['sink']), ...(withMigrate ? { migrate: new KeptProgram(pipeline, ['migrate']) } : {}) };
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
  await kept.migrate?.last();
  figures.compared += await drainedEqual(pipeline).catch((error: unknown) => withTraces(pipeline, error));
  if (withMigrate) await finishMigrate(pipeline, figures);
  else figures.roundsOfTheStreamAlone++;
  const { required } = await recorded(pipeline);
  if (required.length > 0) throw new Error(`no kill is a reason for BACKFILL REQUIRED: ${JSON.stringify(required)}`);
  await Promise.all([endNow(kept.stream), endNow(kept.sink)]);
  for (const one of Object.values(kept)) {
    figures.away += one.away;
    figures.faults.push(...one.faults);
  }
  figures.migrates += kept.migrate?.finished ?? 0;
  figures.rounds++;
  if (figures.epochs > 0) throw new Error('a reader began a new epoch, which no kill is a reason for');
}

async function drainedEqual(pipeline: Pipeline): Promise<number> {
  await pipeline.drained({ stallMs: 240_000, unattendedMs: 120_000 });
  return pipeline.equal();
}

/** What the topics and both ends hold of the rows that differ: the servers, and all they know, are gone after this. */
async function withTraces(pipeline: Pipeline, error: unknown): Promise<never> {
  const { differences } = await pipeline.oracle();
  const traces: string[] = [];
  for (const { table, id } of differences.slice(0, TRACED)) {
    const trace = pipeline.spawn(['trace', table, id]);
    await trace.ended;
    traces.push(trace.stdout);
  }
  throw new Error([error instanceof Error ? error.message : String(error), ...traces].join('\n'));
}

/** A run that the last kill left open, and the first run of all when every attempt at it was killed, end after the comparison. */
async function finishMigrate(pipeline: Pipeline, figures: ChaosFigures): Promise<void> {
  const { required, runs } = await recorded(pipeline);
  if (required.some(({ reason }) => reason !== 'first-run')) return;
  const open = runs.some(({ state }) => state === 'open');
  if (!open && required.length === 0) return;
  const { resumed } = JSON.parse(await untilDone(pipeline, ['migrate', '--json'])) as { resumed: boolean };
  if (open && !resumed) throw new Error('a run that was left open was not resumed');
  figures.migrates++;
  if (open) figures.resumed++;
  figures.compared += await drainedEqual(pipeline);
}

/** What `status` says is recorded. */
async function recorded(pipeline: Pipeline): Promise<{ readonly required: readonly { reason: string }[]; readonly runs: readonly { state: string }[] }> {
  return JSON.parse(await untilDone(pipeline, ['status', '--json'])).state.value;
}

/** The end of a round is no kill of the figures. */
async function endNow(program: KeptProgram): Promise<void> {
  const last = program.last();
  await program.kill();
  await last;
}

type Kept = Readonly<Record<'stream' | 'sink', KeptProgram> & Partial<Record<'migrate', KeptProgram>>>;

async function killAtRandom(kept: Kept, servers: ChaosServers, options: ChaosOptions, random: Random, figures: ChaosFigures, over: AbortSignal): Promise<void> {
  const returning = new Map<Victim, Promise<void>>();
  while (!over.aborted) {
    await sleep(random.int(...options.pauseMs), undefined, { signal: over }).catch(() => undefined);
    if (over.aborted) break;
    const victim = random.weighted(WEIGHTS);
    if (victim === 'stream' || victim === 'sink' || victim === 'migrate') {
      const program = kept[victim];
      // Mostly at work: on a slow machine nearly all kills would meet a program that is still starting.
      if (!program || (!program.isAtWork() && random.chance(0.8))) continue;
      if (await program.kill()) figures.kills[victim]++;
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
  return `${figures.minutes.toFixed(1)} min, ${figures.rounds} rounds (${figures.roundsOfTheStreamAlone} without migrate), ${kills} kills (${byVictim}), ${figures.operations} operations (${figures.lost} lost their connection), ${figures.rowChanges} row changes, ${figures.migrates} migrates (${figures.resumed} finished after the comparison), ${figures.compared} rows compared, ${figures.away} starts met an absent server, ${figures.epochs} epochs begun, ${figures.faults.length} unexplained ends`;
}
