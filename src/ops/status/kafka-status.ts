import type { TableName } from '../../core/contracts.ts';
import type { ControlLog } from '../../core/state.ts';
import type { KafkaClient } from '../../pipeline/kafka/client.ts';
import { openDeadLetters, type LetterGroup } from '../../pipeline/kafka/dead-letters.ts';
import { openGroupLag, type GroupLag } from '../../pipeline/kafka/group-lag.ts';
import { describeTopics, withAdmin, type TopicNames } from '../../pipeline/kafka/topics.ts';

export interface KafkaStatus {
  readonly brokers: number;
  readonly topics: readonly { readonly topic: string; readonly exists: boolean; readonly partitions: number; readonly replicationFactor: number; readonly underReplicated: number }[];
}

export interface GroupStatus {
  readonly group: string;
  /** `Stable`, `Empty`, `Dead` …, as Kafka says. */
  readonly state: string;
  readonly members: number;
  /** Every record that is in the topics now is settled. */
  readonly drained: boolean;
  readonly tables: readonly { readonly table: TableName; /** Offsets: an upper bound of the records. */ readonly behind: number; /** Offsets of all partitions together, for rates: where the topic ends, and up to where the group has committed. */ readonly end: number; readonly settled: number }[];
}

export interface LettersStatus {
  readonly open: number;
  readonly groups: readonly LetterGroup[];
}

export async function readKafka(kafka: KafkaClient, names: TopicNames): Promise<KafkaStatus> {
  return await withAdmin(kafka, 'read the topics', async (admin) => {
    const { brokers } = await admin.describeCluster();
    const topics = await describeTopics(admin, names);
    return { brokers: brokers.length, topics: topics.map(({ topic, exists, partitions, replicationFactor, underReplicated }) => ({ topic, exists, partitions, replicationFactor, underReplicated })) };
  });
}

export async function readGroup(kafka: KafkaClient, names: TopicNames, group: string): Promise<GroupStatus> {
  const lag = await openGroupLag(kafka, names, group);
  try {
    return await lookAtGroup(kafka, lag, group);
  } finally {
    await lag.close();
  }
}

/** The same over connections that stay open. */
export async function lookAtGroup(kafka: KafkaClient, lag: GroupLag, group: string): Promise<GroupStatus> {
  const ends = await lag.endOffsets();
  const drained = await lag.isDrainedTo(ends);
  const tables = new Map<TableName, { behind: number; end: number }>();
  for (const { table, behind, end } of await lag.lag()) {
    const sum = tables.get(table) ?? { behind: 0, end: 0 };
    tables.set(table, { behind: sum.behind + Number(behind), end: sum.end + Number(end) });
  }
  const described = await withAdmin(kafka, 'look at the consumer group', (admin) => admin.describeGroups([group]));
  return {
    group, drained,
    state: described.groups[0]?.state ?? 'unknown',
    members: described.groups[0]?.members.length ?? 0,
    // markers and aborted records take offsets too: a drained group has nothing to do
    tables: [...tables].map(([table, { behind, end }]) => ({ table, behind: drained ? 0 : behind, end, settled: end - behind })),
  };
}

export async function readLetters(kafka: KafkaClient, names: TopicNames, control: ControlLog): Promise<LettersStatus> {
  const letters = await openDeadLetters(kafka, names, control);
  try {
    const groups = await letters.groups();
    return { groups, open: groups.reduce((sum, group) => sum + group.open, 0) };
  } finally {
    await letters.close();
  }
}
