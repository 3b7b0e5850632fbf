import type { LayoutRecord } from '../../../core/state.ts';
import { MAX_ROW_BYTES, layoutFault, verifyTopics, type TopicFinding, type TopicNames, type TopicState } from '../../../pipeline/kafka/topics.ts';
import { fail, ok, size, warn, type Finding } from '../finding.ts';

export interface BrokerFacts {
  readonly count: number;
  /** Of one broker; null where the cluster does not let them be read. */
  readonly settings: Readonly<Record<string, string>> | null;
}

const WEEK_MINUTES = 7 * 24 * 60;

export function brokerFindings({ count, settings }: BrokerFacts, replicationFactor: number): Finding[] {
  const findings = [
    count < replicationFactor
      ? fail('brokers', `${count} of them, and KAFKA_REPLICATION_FACTOR asks for ${replicationFactor} copies`, 'Add brokers, or lower KAFKA_REPLICATION_FACTOR.')
      : replicationFactor === 1 && count >= 3
        ? warn('brokers', `${count} of them, and KAFKA_REPLICATION_FACTOR is 1: one broker's disk is the only copy`, 'Set KAFKA_REPLICATION_FACTOR=3 before the first setup.')
        : ok('brokers', `${count}, with ${replicationFactor} ${replicationFactor === 1 ? 'copy' : 'copies'} of each topic`),
  ];
  if (settings === null) return [...findings, warn('broker settings', 'cannot be read with this user', 'Allow DESCRIBE_CONFIGS on the cluster, or see to log.cleaner.enable and socket.request.max.bytes yourself.')];
  return [...findings, ...settingFindings(settings)];
}

function settingFindings(settings: Readonly<Record<string, string>>): Finding[] {
  const findings: Finding[] = [];
  const number = (name: string): number => Number(settings[name] ?? Number.NaN);
  if (settings['log.cleaner.enable'] === 'false') findings.push(fail('log.cleaner.enable', 'false: the topics are never compacted and grow for ever', 'Set log.cleaner.enable=true on the brokers.'));
  if (number('socket.request.max.bytes') < 2 * MAX_ROW_BYTES) findings.push(fail('socket.request.max.bytes', `${size(number('socket.request.max.bytes'))} is too small for the largest rows`, `Set it to ${size(4 * MAX_ROW_BYTES)} or more.`));
  if (number('transaction.max.timeout.ms') < 10_000) findings.push(fail('transaction.max.timeout.ms', `${settings['transaction.max.timeout.ms']} ms, and the writers ask for 10 s`, 'Set it to 10000 or more.'));
  if (number('offsets.retention.minutes') < WEEK_MINUTES) findings.push(warn('offsets.retention.minutes', `${settings['offsets.retention.minutes']}: sinks that stay away longer read the topics from their beginning`, `Set it to ${WEEK_MINUTES} or more.`));
  return findings.length > 0 ? findings : [ok('broker settings', 'fit')];
}

export function topicFindings(states: readonly TopicState[], names: TopicNames, partitions: number): Finding[] {
  const missing = states.filter(({ exists }) => !exists);
  if (missing.length === states.length) return [warn('topics', 'none of them is there yet', 'Run dify-es setup.')];
  const findings: Finding[] = missing.map(({ topic }) => fail('topics', `${topic} is missing`, 'Run dify-es setup, and then a full migrate, since its records are gone.'));
  // the number of partitions has a line of its own
  const wrong = verifyTopics(states.filter(({ exists }) => exists), names, partitions).filter(({ what }) => what !== 'partitions');
  findings.push(...wrong.map(topicFinding));
  return findings.length > 0 ? findings : [ok('topics', `${states.length}, with the settings they need`)];
}

function topicFinding({ topic, what, expected, actual, severity }: TopicFinding): Finding {
  const level = severity === 'fault' ? fail : warn;
  if (what === 'replicas') return level(`topic ${topic}`, actual, 'See that all brokers run.');
  return level(`topic ${topic}`, `${what} is ${actual || 'not set'} instead of ${expected}`, 'Run dify-es setup, which corrects it.');
}

/** Rows would move to another partition, and their older records would be read after the newer ones. */
export function layoutFinding(pinned: LayoutRecord | undefined, tables: readonly TopicState[], configured: number): Finding {
  const counts = [...new Set(tables.map(({ partitions }) => partitions))];
  if (counts.length === 0) return ok('partitions', `${configured} for each table, once setup has run`);
  if (counts.length > 1) return fail('partitions', `the tables' topics have different numbers: ${counts.join(', ')}`, 'Restore it, or start with a new KAFKA_TOPIC_PREFIX and a full migrate.');
  const fault = layoutFault(pinned, counts[0]!);
  if (fault !== undefined) return fail('partitions', fault, 'Restore it, or start with a new KAFKA_TOPIC_PREFIX and a full migrate.');
  if (counts[0] !== configured) return warn('partitions', `${counts[0]} for each table; KAFKA_PARTITIONS=${configured} has no effect any more`, `Set KAFKA_PARTITIONS=${counts[0]}.`);
  return ok('partitions', `${counts[0]} for each table: at most ${counts[0]} sinks share the work`);
}

export function groupFinding(group: string, state: { readonly state: string; readonly members: readonly unknown[] } | undefined): Finding {
  const members = state?.members.length ?? 0;
  if (members > 0) return ok('consumer group', `${group} has ${members} ${members === 1 ? 'member' : 'members'}, ${state?.state}`);
  return ok('consumer group', `${group} has no members: no sink runs`);
}
