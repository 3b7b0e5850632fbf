import type { Client } from '@elastic/elasticsearch';
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import type { ControlLog } from '../../core/state.ts';
import { openPool } from '../../pipeline/capture/pg-connection.ts';
import type { KafkaClient } from '../../pipeline/kafka/client.ts';
import { openControlLog } from '../../pipeline/kafka/control-log.ts';
import { openGroupLag, type GroupLag } from '../../pipeline/kafka/group-lag.ts';
import { topicNames, type TopicNames } from '../../pipeline/kafka/topics.ts';
import { checkConnection } from '../../pipeline/sink/elastic-client.ts';
import { elasticSettings, openElastic, openKafka, pgTarget } from '../../run/connections.ts';
import { tenantsOfSource } from '../cutover/tenants.ts';
import { readElastic, type ElasticStatus } from '../status/elastic-status.ts';
import { lookAtGroup, readKafka, readLetters, type GroupStatus, type KafkaStatus, type LettersStatus } from '../status/kafka-status.ts';
import { readSource, type SourceStatus } from '../status/source-status.ts';
import type { WalSample } from '../watch/wal-budget.ts';
import { Look, type Pace } from './look.ts';

/** Everything that is looked at, each at its own pace. */
export interface Looks {
  readonly source: Look<SourceStatus>;
  readonly kafka: Look<KafkaStatus>;
  readonly group: Look<GroupStatus>;
  /** Connected to the control topic: what it holds is followed from then on, in memory. */
  readonly control: Look<ControlLog>;
  readonly letters: Look<LettersStatus>;
  readonly elasticsearch: Look<ElasticStatus>;
  /** Tenants that have rows in PostgreSQL. */
  readonly tenants: Look<ReadonlySet<string>>;
}

export interface OpenLooks {
  readonly looks: Looks;
  readonly client: Client;
  run(pace: Pace, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/**
 * Over connections of its own that stay open, each made when its server is there: a console has to start, and to say so,
 * while servers are away. It reads what `status` reads, by the same functions; nothing is written.
 */
export function openLooks(config: Config, log: Logger, onSeen: (name: keyof Looks) => void): OpenLooks {
  const names = topicNames(config.kafka.topicPrefix);
  const kafka = openKafka(config, log);
  const client = openElastic(config);
  const db = openPool(pgTarget(config), { role: 'console', max: 1, statementTimeoutMs: 10_000, connectTimeoutMs: 5_000 });
  const samples: WalSample[] = [];
  const group = keptOpen(() => openGroupLag(kafka, names, config.kafka.group), 'anew after an error');
  // follows its topic by itself, also over a broker that restarts
  const control = keptOpen(() => openControlLog({ kafka, topic: names.control, logger: log }), 'for good');

  const seen = (name: keyof Looks) => (): void => onSeen(name);
  const looks: Looks = {
    source: new Look({ away: 'PG_UNREACHABLE', watchedMs: 2_000, restingMs: 15_000, onSeen: seen('source'), read: () => readSource(db, config.postgres, samples) }),
    kafka: new Look({ away: 'KAFKA_UNREACHABLE', watchedMs: 5_000, restingMs: 30_000, onSeen: seen('kafka'), read: () => readKafka(kafka, names) }),
    group: new Look({ away: 'KAFKA_UNREACHABLE', watchedMs: 2_000, restingMs: 15_000, onSeen: seen('group'), read: () => group.use((lag) => lookAtGroup(kafka, lag, config.kafka.group)) }),
    control: new Look({ away: 'KAFKA_UNREACHABLE', watchedMs: 2_000, restingMs: 15_000, onSeen: seen('control'), read: () => control.use(refreshed) }),
    letters: new Look({ away: 'KAFKA_UNREACHABLE', watchedMs: 10_000, restingMs: 60_000, onSeen: seen('letters'), read: () => lettersOf(kafka, names, control) }),
    elasticsearch: new Look({ away: 'ES_UNREACHABLE', watchedMs: 3_000, restingMs: 30_000, onSeen: seen('elasticsearch'), read: () => elasticOf(client, config) }),
    tenants: new Look({ away: 'PG_UNREACHABLE', watchedMs: 30_000, restingMs: 300_000, onSeen: seen('tenants'), read: () => tenantsOfSource(config) }),
  };
  return {
    looks, client,
    run: async (pace, signal) => void (await Promise.all(Object.values(looks).map((one: Look<unknown>) => one.run(pace, signal)))),
    close: async () => void (await Promise.allSettled([group.close(), control.close(), db.end(), client.close()])),
  };
}

async function refreshed(control: ControlLog): Promise<ControlLog> {
  await control.refresh();
  return control;
}

async function elasticOf(client: Client, config: Config): Promise<ElasticStatus> {
  const server = await checkConnection(client, elasticSettings(config));
  return await readElastic(client, config.elasticsearch.indexPrefix, null, server);
}

function lettersOf(kafka: KafkaClient, names: TopicNames, control: KeptOpen<ControlLog>): Promise<LettersStatus> {
  return control.use((view) => readLetters(kafka, names, view));
}

interface KeptOpen<T> {
  use<R>(work: (opened: T) => Promise<R>): Promise<R>;
  close(): Promise<void>;
}

/** Opened at the first use. */
function keptOpen<T extends GroupLag | ControlLog>(open: () => Promise<T>, kept: 'for good' | 'anew after an error'): KeptOpen<T> {
  let opened: Promise<T> | undefined;
  const forget = async (mine: Promise<T>): Promise<void> => {
    if (opened === mine) opened = undefined;
    await (await mine.catch(() => undefined))?.close();
  };
  return {
    async use(work) {
      const mine = (opened ??= open());
      let ready: T | undefined;
      try {
        ready = await mine;
        return await work(ready);
      } catch (error) {
        if (ready === undefined || kept === 'anew after an error') await forget(mine);
        throw error;
      }
    },
    close: async () => {
      if (opened) await forget(opened);
    },
  };
}
