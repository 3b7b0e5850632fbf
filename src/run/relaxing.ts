import type { Client } from '@elastic/elasticsearch';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { stateKeys, type ControlLog } from '../core/state.ts';
import { allRuns } from '../pipeline/backfill/run-record.ts';
import { RelaxedIndices } from '../pipeline/sink/relaxed.ts';

export interface Relaxing {
  /** Before documents go to indices that this process does not know: new ones are made relaxed while a backfill reads. */
  beforeNew(names: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

const LOOK_EVERY_MS = 10_000;

/**
 * Whether somebody reads for a backfill now: a run is open, and one of its processes gave a sign of life. A run that
 * crashed stays open until somebody goes on with it, perhaps never; the indices must not wait for that. Pure.
 */
export class Backfilling {
  readonly #silentMs: number;
  #lastSignMs: number;

  /** A process that lives shows within the time from the beginning. */
  constructor(silentMs: number, nowMs: number) {
    this.#silentMs = silentMs;
    this.#lastSignMs = nowMs;
  }

  sign(nowMs: number): void {
    this.#lastSignMs = nowMs;
  }

  /** `over`: no run is open, or all of its processes are gone. */
  state(anyOpen: boolean, nowMs: number): 'reading' | 'over' {
    return anyOpen && nowMs - this.#lastSignMs < this.#silentMs ? 'reading' : 'over';
  }
}

/**
 * Sees to the relaxed indices, in every sink: makes new ones relaxed while a backfill reads, and puts back whatever is
 * relaxed when none does, whoever made it. Troubles are said and tried again; they never stop the sink.
 */
export function startRelaxing(config: Config, client: Client, control: ControlLog, log: Logger): Relaxing {
  const { indexPrefix, refreshInterval, replicas, backfillRefreshInterval, backfillReplicas } = config.elasticsearch;
  const indices = new RelaxedIndices(client, indexPrefix, { refreshInterval, replicas }, { refreshInterval: backfillRefreshInterval || refreshInterval, replicas: backfillReplicas });
  const backfilling = new Backfilling(config.kafka.sessionTimeoutMs, performance.now());
  const state = (): 'reading' | 'over' => backfilling.state(allRuns(control).some((run) => run.state === 'open'), performance.now());
  let looking: Promise<void> | undefined;

  const putBack = async (): Promise<void> => {
    try {
      const names = await indices.putBack();
      if (names.length > 0) log.info({ indices: names.length }, 'the backfill is over: refresh and replicas of its indices are as configured again');
    } catch (error) {
      log.warn({ reason: error instanceof Error ? error.message : 'unknown' }, 'relaxed indices could not be put back; it is tried again');
    }
  };
  const look = (): void => {
    if (state() === 'over') looking ??= putBack().finally(() => (looking = undefined));
  };
  const unwatch = control.onChange((key) => {
    if (key.startsWith(stateKeys.beat(''))) backfilling.sign(performance.now());
    else if (key.startsWith(stateKeys.run(''))) look();
  });
  const timer = setInterval(look, Math.min(LOOK_EVERY_MS, config.kafka.sessionTimeoutMs / 3));
  look();

  return {
    async beforeNew(names) {
      if (!indices.worthwhile || state() === 'over') return;
      for (const name of names) await indices.make(name);
    },
    async stop() {
      unwatch();
      clearInterval(timer);
      await looking;
    },
  };
}
