import type { Client } from '@elastic/elasticsearch';
import type { Logger } from 'pino';
import { TABLES } from '../core/contracts.ts';
import { DifyEsError } from '../core/errors.ts';
import { parseLsn } from '../core/lsn.ts';
import { OUTLIVES_KAFKA, stateKeys, type BackfillRequired, type ControlLog, type EpochRecord } from '../core/state.ts';
import { openControlLog } from '../pipeline/kafka/control-log.ts';
import type { KafkaClient } from '../pipeline/kafka/client.ts';
import { StateMirror } from '../pipeline/sink/state-mirror.ts';

/**
 * The control topic with its second copy in Elasticsearch (OUTLIVES_KAFKA). Whoever opens it after Kafka's data was
 * deleted finds the epoch, the switched tenants and the boundaries again, and BACKFILL REQUIRED for all tables.
 */
export interface DurableState {
  readonly control: ControlLog;
  /**
   * Of both copies the higher: a lower high-water mark would not notice that the source was rolled back. Kafka's alone
   * while Elasticsearch is away; without one there it throws ES_UNREACHABLE.
   */
  readEpoch(): Promise<EpochRecord | undefined>;
  /** The second copy of a record that is in Kafka already. Never throws and never waits: only the newest one counts. */
  mirrorEpoch(record: EpochRecord): void;
  /** Waits for the mirror, at most a moment, and closes. */
  close(): Promise<void>;
}

export interface DurableStateOptions {
  readonly kafka: KafkaClient;
  readonly controlTopic: string;
  readonly client: Client;
  readonly prefix: string;
  readonly log: Logger;
}

/**
 * Throws what openControlLog throws, and ES_UNREACHABLE where Kafka has no epoch and Elasticsearch cannot say whether it
 * has one: an epoch 1 that began then would overwrite the only copy of the true one.
 */
export async function openDurableState({ kafka, controlTopic, client, prefix, log }: DurableStateOptions): Promise<DurableState> {
  const plain = await openControlLog({ kafka, topic: controlTopic, logger: log });
  const mirror = new StateMirror(client, prefix);
  const control = withMirror(plain, mirror);
  try {
    await restore(plain, mirror, log);
  } catch (error) {
    await plain.close();
    throw error;
  }
  const epochs = new LatestOnly<EpochRecord>((record) => mirror.put(stateKeys.epoch, record), (error) => log.warn({ reason: message(error) }, 'the epoch was not copied to Elasticsearch'));
  return {
    control,
    async readEpoch() {
      await plain.refresh();
      const here = plain.get<EpochRecord>(stateKeys.epoch);
      try {
        return higherEpoch(here, await mirror.get<EpochRecord>(stateKeys.epoch));
      } catch (error) {
        if (!here || !isAway(error)) throw error;
        log.warn('Elasticsearch is away: the epoch is read from Kafka alone');
        return here;
      }
    },
    mirrorEpoch: (record) => epochs.put(record),
    async close() {
      await epochs.idle();
      await plain.close();
    },
  };
}

/** Pure: by epoch, then by high-water mark. */
function higherEpoch(a: EpochRecord | undefined, b: EpochRecord | undefined): EpochRecord | undefined {
  if (!a || !b) return a ?? b;
  if (a.epoch !== b.epoch) return a.epoch > b.epoch ? a : b;
  return parseLsn(a.highWaterLsn) >= parseLsn(b.highWaterLsn) ? a : b;
}

const outlivesKafka = (key: string): boolean => OUTLIVES_KAFKA.some((beginning) => key.startsWith(beginning));

/** Elasticsearch first: a state that only Kafka has is lost with it, one that only Elasticsearch has is found again. */
function withMirror(control: ControlLog, mirror: StateMirror): ControlLog {
  return {
    ...control,
    async put(key, value) {
      if (outlivesKafka(key)) await mirror.put(key, value);
      await control.put(key, value);
    },
    async remove(key) {
      if (outlivesKafka(key)) await mirror.remove(key);
      await control.remove(key);
    },
  };
}

/**
 * An epoch in Elasticsearch and none in Kafka: Kafka's data is gone. Documents are as they were, but a replay has
 * nothing to replay until everything was read again. The epoch comes last, since it is what says that this was done.
 */
async function restore(control: ControlLog, mirror: StateMirror, log: Logger): Promise<void> {
  if (control.get(stateKeys.epoch) !== undefined) return;
  const epoch = await mirror.get<EpochRecord>(stateKeys.epoch);
  if (!epoch) return;
  log.warn({ epoch: epoch.epoch }, 'Kafka has lost its data; the state is taken from Elasticsearch, and a full backfill is required');
  // Marked transactions that the reader has not passed yet must find their announcement, and the reconcile that is
  // required must find what a policy keeps.
  for (const kept of ['tenant/', 'cleanup/', 'truncate/']) for (const [key, value] of await mirror.entries(kept)) await control.put(key, value);
  for (const table of TABLES) {
    const required: BackfillRequired = { table, reason: 'kafka-data-lost', sinceLsn: epoch.highWaterLsn, sinceEpoch: epoch.epoch, reconcile: true, at: new Date().toISOString() };
    await control.put(stateKeys.required(table), required);
  }
  await control.put(stateKeys.epoch, epoch);
}

const isAway = (error: unknown): boolean => error instanceof DifyEsError && error.code === 'ES_UNREACHABLE';
const message = (error: unknown): string => (error instanceof Error ? error.message : 'unknown');

const IDLE_WAIT_MS = 2_000;

/** Writes one value at a time and, of those that came meanwhile, only the newest. */
class LatestOnly<T> {
  readonly #write: (value: T) => Promise<void>;
  readonly #failed: (error: unknown) => void;
  #next: T | undefined;
  #writing: Promise<void> | undefined;

  constructor(write: (value: T) => Promise<void>, failed: (error: unknown) => void) {
    this.#write = write;
    this.#failed = failed;
  }

  put(value: T): void {
    this.#next = value;
    this.#writing ??= this.#run();
  }

  async idle(): Promise<void> {
    await Promise.race([this.#writing, new Promise((resolve) => void setTimeout(resolve, IDLE_WAIT_MS).unref())]);
  }

  async #run(): Promise<void> {
    while (this.#next !== undefined) {
      const value = this.#next;
      this.#next = undefined;
      await this.#write(value).catch(this.#failed);
    }
    this.#writing = undefined;
  }
}
