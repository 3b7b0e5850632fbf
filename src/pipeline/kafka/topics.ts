import { setTimeout as sleep } from 'node:timers/promises';
import { TABLES, type TableName } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { PARTITIONER } from '../../core/row-key.ts';
import { type ControlLog, type LayoutRecord, stateKeys } from '../../core/state.ts';
import { type Admin, ConfigResourceTypes, type KafkaClient } from './kafkajs.ts';
import { classifyKafkaError, toDifyEsError } from './kafka-errors.ts';

export interface TopicNames {
  readonly table: Readonly<Record<TableName, string>>;
  readonly control: string;
  readonly dlq: string;
  readonly all: readonly string[];
}

export function topicNames(prefix: string): TopicNames {
  const table = Object.fromEntries(TABLES.map((name) => [name, `${prefix}.cdc.${name}`])) as Record<TableName, string>;
  const control = `${prefix}.cdc.control`;
  const dlq = `${prefix}.cdc.dlq`;
  return { table, control, dlq, all: [...Object.values(table), control, dlq] };
}

const MIB = 1024 * 1024;
const DAY_MS = 24 * 3600 * 1000;

/** No row below this is parked for Kafka's sake, whatever it is: the topics take a MiB more. */
export const MAX_ROW_BYTES = 21 * MIB;
/** A letter carries a row and what is known about it. */
const MAX_LETTER_BYTES = MAX_ROW_BYTES + MIB;

/** What a topic must be set to. All texts, as the brokers print them. */
export type TopicConfig = Readonly<Record<string, string>>;

/**
 * min.compaction.lag stays 0: a value is a whole row, so a reader that meets only the newest has lost nothing.
 * delete.retention.ms is a week, because a sink that is behind by more than that would not see that a row is gone.
 * compression.type=producer: a broker that recompresses to lz4 or snappy would write what kafkajs cannot read.
 */
export function topicConfig(kind: 'table' | 'control' | 'dlq', replicationFactor: number): TopicConfig {
  const common = {
    'compression.type': 'producer',
    'min.insync.replicas': replicationFactor >= 3 ? '2' : '1',
    'unclean.leader.election.enable': 'false',
    // One copy: the broker must sync before it acknowledges, or a power cut takes what PostgreSQL has forgotten. Not
    // flush.ms, which it looks at every log.flush.scheduler.interval.ms: never, by default.
    ...(replicationFactor === 1 ? { 'flush.messages': '1' } : {}),
  };
  const compacted = { ...common, 'cleanup.policy': 'compact', 'delete.retention.ms': String(7 * DAY_MS) };
  switch (kind) {
    case 'table':
      return { ...compacted, 'max.message.bytes': String(MAX_LETTER_BYTES), 'segment.bytes': String(256 * MIB), 'segment.ms': String(DAY_MS) };
    case 'control':
      // Read from its beginning by every verb: kept short by small segments and an eager cleaner.
      return { ...compacted, 'max.message.bytes': String(4 * MIB), 'segment.bytes': String(8 * MIB), 'segment.ms': String(DAY_MS / 24), 'min.cleanable.dirty.ratio': '0.1' };
    case 'dlq':
      return { ...common, 'cleanup.policy': 'delete', 'retention.ms': '-1', 'retention.bytes': '-1', 'max.message.bytes': String(MAX_LETTER_BYTES + MIB), 'segment.bytes': String(256 * MIB) };
    default:
      return kind satisfies never;
  }
}

interface TopicPlan {
  readonly topic: string;
  readonly partitions: number;
  readonly config: TopicConfig;
}

function plan(names: TopicNames, partitions: number, replicationFactor: number): TopicPlan[] {
  return [
    ...Object.values(names.table).map((topic) => ({ topic, partitions, config: topicConfig('table', replicationFactor) })),
    { topic: names.control, partitions: 1, config: topicConfig('control', replicationFactor) },
    { topic: names.dlq, partitions: 1, config: topicConfig('dlq', replicationFactor) },
  ];
}

export interface TopicState {
  readonly topic: string;
  readonly exists: boolean;
  readonly partitions: number;
  readonly replicationFactor: number;
  /** Partitions with fewer replicas in sync than they have. */
  readonly underReplicated: number;
  readonly config: TopicConfig;
}

/** What the brokers say of the topics. Read only. */
export async function describeTopics(admin: Admin, names: TopicNames): Promise<TopicState[]> {
  const present = new Set(await admin.listTopics());
  const existing = names.all.filter((topic) => present.has(topic));
  const metadata = existing.length > 0 ? (await admin.fetchTopicMetadata({ topics: existing })).topics : [];
  const configs = existing.length > 0 ? (await admin.describeConfigs({ includeSynonyms: false, resources: existing.map((name) => ({ type: ConfigResourceTypes.TOPIC, name })) })).resources : [];
  return names.all.map((topic) => {
    const partitions = metadata.find(({ name }) => name === topic)?.partitions ?? [];
    const entries = configs.find(({ resourceName }) => resourceName === topic)?.configEntries ?? [];
    return {
      topic,
      exists: present.has(topic),
      partitions: partitions.length,
      replicationFactor: Math.min(...partitions.map(({ replicas }) => replicas.length), partitions.length === 0 ? 0 : Infinity),
      underReplicated: partitions.filter(({ isr, replicas }) => isr.length < replicas.length).length,
      config: Object.fromEntries(entries.map(({ configName, configValue }) => [configName, configValue])),
    };
  });
}

export interface TopicFinding {
  readonly topic: string;
  /** `partitions`, `exists`, `replicas`, or the name of a setting. */
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
  /** A fault loses or refuses records; a warning costs time or space. */
  readonly severity: 'fault' | 'warning';
}

const NUMERIC_AT_LEAST = new Set(['max.message.bytes', 'delete.retention.ms', 'min.insync.replicas']);
const ONLY_A_WARNING = new Set(['segment.bytes', 'segment.ms', 'min.cleanable.dirty.ratio']);

/** Compares the topics with what this program needs. `partitions`: as pinned, or as configured before the first setup. */
export function verifyTopics(states: readonly TopicState[], names: TopicNames, partitions: number): TopicFinding[] {
  const findings: TopicFinding[] = [];
  for (const state of states) {
    const report = (what: string, expected: string, actual: string, severity: TopicFinding['severity']): void => void findings.push({ topic: state.topic, what, expected, actual, severity });
    const wanted = plan(names, partitions, state.replicationFactor).find(({ topic }) => topic === state.topic)!;
    if (!state.exists) {
      report('exists', 'yes', 'no', 'fault');
      continue;
    }
    if (state.partitions !== wanted.partitions) report('partitions', String(wanted.partitions), String(state.partitions), 'fault');
    if (state.underReplicated > 0) report('replicas', 'all in sync', `${state.underReplicated} partitions are not`, 'warning');
    for (const [name, expected] of Object.entries(wanted.config)) {
      const actual = state.config[name] ?? '';
      if (!isFine(name, expected, actual)) report(name, expected, actual, ONLY_A_WARNING.has(name) ? 'warning' : 'fault');
    }
  }
  return findings;
}

function isFine(name: string, expected: string, actual: string): boolean {
  return actual === expected || (NUMERIC_AT_LEAST.has(name) && actual !== '' && Number(actual) >= Number(expected));
}

/**
 * Creates what is missing and corrects settings; a second call changes nothing. Partitions of an existing topic are
 * never changed: a row would move to another partition, and its older records would be read after its newer ones.
 */
export async function ensureTopics(kafka: KafkaClient, names: TopicNames, wanted: { readonly partitions: number; readonly replicationFactor: number }): Promise<{ created: string[]; altered: string[] }> {
  return withAdmin(kafka, 'create the topics', async (admin) => {
    const states = await describeTopics(admin, names);
    const partitions = Math.max(...Object.values(names.table).map((topic) => states.find((state) => state.topic === topic)!.partitions)) || wanted.partitions;
    const missing = plan(names, partitions, wanted.replicationFactor).filter(({ topic }) => !states.find((state) => state.topic === topic)!.exists);
    if (missing.length > 0) {
      await admin.createTopics({
        waitForLeaders: false,
        topics: missing.map(({ topic, partitions: numPartitions, config }) => ({
          topic,
          numPartitions,
          replicationFactor: wanted.replicationFactor,
          configEntries: Object.entries(config).map(([name, value]) => ({ name, value })),
        })),
      });
    }
    if (missing.length > 0) await untilReady(admin, names);
    const altered = await correctSettings(admin, names, states.filter(({ exists }) => exists), partitions);
    return { created: missing.map(({ topic }) => topic), altered };
  });
}

/** A topic that was just made is unknown to a broker, or without a leader, for up to seconds on a busy machine. */
async function untilReady(admin: Admin, names: TopicNames): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    try {
      const { topics } = await admin.fetchTopicMetadata({ topics: [...names.all] });
      if (topics.every(({ partitions }) => partitions.length > 0 && partitions.every(({ leader }) => leader >= 0))) return;
    } catch (error) {
      const { code } = classifyKafkaError(error);
      if (Date.now() > deadline || (code !== 'KAFKA_TOPIC_MISSING' && code !== 'KAFKA_UNREACHABLE')) throw error;
    }
    await sleep(100);
  }
}

/** AlterConfigs replaces all settings of a topic (KafkaJS has no incremental form), so those set by others are sent along. */
async function correctSettings(admin: Admin, names: TopicNames, states: readonly TopicState[], partitions: number): Promise<string[]> {
  const wrong = new Set(verifyTopics(states, names, partitions).filter(({ what }) => what !== 'partitions' && what !== 'replicas').map(({ topic }) => topic));
  if (wrong.size === 0) return [];
  const own = await admin.describeConfigs({ includeSynonyms: false, resources: [...wrong].map((name) => ({ type: ConfigResourceTypes.TOPIC, name })) });
  const resources = [...wrong].map((topic) => {
    const state = states.find((candidate) => candidate.topic === topic)!;
    const expected = plan(names, partitions, state.replicationFactor).find((candidate) => candidate.topic === topic)!.config;
    const kept = (own.resources.find(({ resourceName }) => resourceName === topic)?.configEntries ?? []).filter((entry) => Number(entry.configSource) === DYNAMIC_TOPIC_CONFIG);
    const merged = new Map(kept.map(({ configName, configValue }) => [configName, configValue]));
    for (const [name, value] of Object.entries(expected)) if (!isFine(name, value, state.config[name] ?? '')) merged.set(name, value);
    return { type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [...merged].map(([name, value]) => ({ name, value })) };
  });
  await admin.alterConfigs({ validateOnly: false, resources });
  return [...wrong];
}

/** `ConfigSource` of the protocol: set on this topic, by somebody. */
const DYNAMIC_TOPIC_CONFIG = 1;

/** Partitions of the tables' topics, which must all have the same number. Throws KAFKA_TOPIC_MISSING. */
async function partitionCount(admin: Admin, names: TopicNames): Promise<number> {
  const states = (await describeTopics(admin, names)).filter(({ topic }) => topic !== names.control && topic !== names.dlq);
  const missing = states.filter(({ exists }) => !exists);
  if (missing.length > 0) throw new DifyEsError('KAFKA_TOPIC_MISSING', `Kafka has no topic ${missing.map(({ topic }) => topic).join(', ')}`);
  const counts = new Set(states.map(({ partitions }) => partitions));
  if (counts.size > 1) throw new DifyEsError('KAFKA_LAYOUT_CHANGED', `the topics have different numbers of partitions: ${states.map(({ topic, partitions }) => `${topic} ${partitions}`).join(', ')}`);
  return [...counts][0]!;
}

/**
 * Compares partitions and partitioner with what was pinned, and pins them the first time. Every writer calls it before
 * its first record. Throws KAFKA_LAYOUT_CHANGED.
 */
export async function pinLayout(kafka: KafkaClient, names: TopicNames, control: ControlLog): Promise<LayoutRecord> {
  const partitions = await withAdmin(kafka, 'read the topics', (admin) => partitionCount(admin, names));
  const pinned = control.get<LayoutRecord>(stateKeys.layout);
  const fault = layoutFault(pinned, partitions);
  if (fault) throw new DifyEsError('KAFKA_LAYOUT_CHANGED', fault);
  const layout = { partitions, partitioner: PARTITIONER };
  if (!pinned) await control.put(stateKeys.layout, layout);
  return layout;
}

/** Undefined when rows still go to the partitions they went to before. */
export function layoutFault(pinned: LayoutRecord | undefined, partitions: number): string | undefined {
  if (!pinned) return undefined;
  if (pinned.partitioner !== PARTITIONER) return `rows were partitioned by ${pinned.partitioner}, this program partitions by ${PARTITIONER}`;
  return pinned.partitions === partitions ? undefined : `the topics had ${pinned.partitions} partitions and now have ${partitions}`;
}

/** The largest record that all of the tables' topics take. */
export async function recordLimit(kafka: KafkaClient, names: TopicNames): Promise<number> {
  const states = await withAdmin(kafka, 'read the topics', (admin) => describeTopics(admin, names));
  const limits = Object.values(names.table).map((topic) => Number(states.find((state) => state.topic === topic)?.config['max.message.bytes']));
  return Math.min(...limits.filter((limit) => limit > 0), MAX_LETTER_BYTES);
}

/** An admin client for the length of one call; errors come out as DifyEsError. */
export async function withAdmin<T>(kafka: KafkaClient, doing: string, use: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafka.admin();
  try {
    await admin.connect();
    return await use(admin);
  } catch (error) {
    throw toDifyEsError(error, doing);
  } finally {
    await admin.disconnect().catch(() => undefined);
  }
}
