import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import { TABLES } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { stateKeys } from '../../core/state.ts';
import { allRuns } from '../../pipeline/backfill/run-record.ts';
import { openDeadLetters } from '../../pipeline/kafka/dead-letters.ts';
import { openGroupLag, type GroupLag } from '../../pipeline/kafka/group-lag.ts';
import type { Platform } from '../../run/platform.ts';
import type { Metrics } from './metrics.ts';

const LAG_EVERY_MS = 15_000;
/** The whole topic of letters is read each time; where that takes long it is done more seldom. */
const LETTERS_EVERY_MS = 60_000;
const MOST_SHARE_OF_TIME = 0.05;

export interface PollOptions {
  readonly config: Config;
  readonly platform: Platform;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Looks at what no hook tells, until the signal. Never throws: a broker that is away is the other parts' to report. */
export async function pollPlatform(options: PollOptions): Promise<void> {
  await Promise.all([pollLag(options), every(options, 'dead-letters', LETTERS_EVERY_MS, () => readLetters(options))]);
}

/** From the view of the control topic, which is in memory: done at each scrape. */
export function readRecordedState({ backfill }: Metrics, { state }: Pick<Platform, 'state'>): void {
  for (const table of TABLES) backfill.required.set({ table }, state.control.get(stateKeys.required(table)) === undefined ? 0 : 1);
  backfill.open.set(allRuns(state.control).filter((run) => run.state === 'open').length);
}

async function pollLag(options: PollOptions): Promise<void> {
  const { platform: { kafka, names }, config, metrics } = options;
  let lag: GroupLag | undefined;
  await every(options, 'consumer-lag', LAG_EVERY_MS, async () => {
    try {
      lag ??= await openGroupLag(kafka, names, config.kafka.group);
      const behind = new Map<string, number>();
      for (const one of await lag.lag()) behind.set(one.table, (behind.get(one.table) ?? 0) + Number(one.behind));
      for (const [table, records] of behind) metrics.group.behind.set({ table }, records);
    } catch (error) {
      await lag?.close();
      lag = undefined;
      throw error;
    }
  });
  await lag?.close();
}

async function readLetters({ platform: { kafka, names, state }, metrics: { letters } }: PollOptions): Promise<void> {
  const open = await openDeadLetters(kafka, names, state.control);
  try {
    const groups = await open.groups();
    letters.count.reset();
    for (const { table, cause, ...counts } of groups) for (const one of ['open', 'accepted', 'redriven'] as const) letters.count.set({ table, cause, state: one }, counts[one]);
  } finally {
    await open.close();
  }
}

async function every({ signal, metrics, log }: PollOptions, what: string, pauseMs: number, look: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    const began = performance.now();
    try {
      await look();
    } catch (error) {
      metrics.pollErrors.inc({ what });
      log.debug({ what, code: error instanceof DifyEsError ? error.code : 'unknown' }, 'could not be looked at for the metrics');
    }
    const tookMs = performance.now() - began;
    await sleep(Math.max(pauseMs, tookMs / MOST_SHARE_OF_TIME), undefined, { signal }).catch(() => undefined);
  }
}
