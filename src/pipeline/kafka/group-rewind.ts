import { DifyEsError } from '../../core/errors.ts';
import { classifyKafkaError, toDifyEsError } from './kafka-errors.ts';
import type { KafkaClient } from './kafkajs.ts';
import { createCluster } from './partition-reader.ts';
import { withAdmin } from './topics.ts';

export interface GroupPosition {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
}

/** Of a commit by nobody: brokers take it only for a group without members (GroupCoordinator, `validateOffsetCommit`). */
const NOBODY = { groupGenerationId: -1, memberId: '', retentionTime: -1 };
const HAS_MEMBERS = new Set(['UNKNOWN_MEMBER_ID', 'ILLEGAL_GENERATION', 'REBALANCE_IN_PROGRESS']);

/**
 * Sets positions of a consumer group in one request. The broker itself refuses while the group has a member, so no sink
 * that starts at this moment can overwrite them with its own: throws GROUP_BUSY, and nothing was changed. kafkajs' own
 * setOffsets joins the group to do it and so cannot tell.
 */
export async function setGroupPositions(kafka: KafkaClient, groupId: string, positions: readonly GroupPosition[]): Promise<void> {
  const cluster = createCluster(kafka);
  const topics = [...Map.groupBy(positions, ({ topic }) => topic)].map(([topic, some]) => ({ topic, partitions: some.map(({ partition, offset }) => ({ partition, offset: offset.toString(), metadata: 'dify-es replay' })) }));
  try {
    await cluster.connect();
    const coordinator = await cluster.findGroupCoordinator({ groupId });
    await coordinator.offsetCommit({ groupId, ...NOBODY, topics });
  } catch (error) {
    if (HAS_MEMBERS.has(classifyKafkaError(error).reason)) throw new DifyEsError('GROUP_BUSY', `the consumer group ${groupId} has members`, { cause: error });
    throw toDifyEsError(error, 'set the positions of the consumer group');
  } finally {
    await cluster.disconnect().catch(() => undefined);
  }
}

/** Members of the group now, by their client's address: what has to be stopped. */
export async function groupMembers(kafka: KafkaClient, groupId: string): Promise<readonly string[]> {
  const { groups } = await withAdmin(kafka, 'look at the consumer group', (admin) => admin.describeGroups([groupId]));
  return (groups[0]?.members ?? []).map(({ clientHost }) => clientHost.replace(/^\//, ''));
}

/** The first offset of each partition whose record was written at or after `timeMs`; the end where there is none. */
export async function offsetsAtTime(kafka: KafkaClient, topic: string, timeMs: number): Promise<Map<number, bigint>> {
  const found = await withAdmin(kafka, 'find the offsets of a time', (admin) => admin.fetchTopicOffsetsByTimestamp(topic, timeMs));
  return new Map(found.map(({ partition, offset }) => [partition, BigInt(offset)]));
}
