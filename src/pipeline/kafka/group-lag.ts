import { TABLES, type TableName } from '../../core/contracts.ts';
import { toDifyEsError } from './kafka-errors.ts';
import type { Admin, KafkaClient } from './kafkajs.ts';
import { createPartitionReader, type PartitionReader } from './partition-reader.ts';
import type { TopicNames } from './topics.ts';

export interface PartitionLag {
  readonly table: TableName;
  readonly partition: number;
  /** Where the group goes on after a restart; null when it never committed, and then it starts at the beginning. */
  readonly committed: bigint | null;
  /** Behind the last record, markers and open transactions included. */
  readonly end: bigint;
  /** Offsets between both: an upper bound of the records, since markers take offsets and compaction leaves holes. */
  readonly behind: bigint;
}

/** End offsets at one moment, by `endKey`. */
export type Ends = ReadonlyMap<string, bigint>;

export const endKey = (table: TableName, partition: number): string => `${table}/${partition}`;

export interface GroupLag {
  lag(): Promise<PartitionLag[]>;
  /** To be taken after the slot was confirmed beyond the LSN of interest (docs/03-acknowledgement.md). */
  endOffsets(): Promise<Ends>;
  /**
   * True when the group has settled every committed record below these ends.
   *
   * Offsets alone cannot tell: markers and aborted records take offsets too, and a log may end with thousands of them.
   * So where the committed position is below the end, the span between is read until the first record that a
   * read_committed consumer would see. While a transaction in the span is open the answer is no, since its records may
   * yet become visible.
   */
  isDrainedTo(ends: Ends): Promise<boolean>;
  close(): Promise<void>;
}

/** Smallest fetch: one batch comes whatever its size, and one record is enough to know. */
const PROBE = { maxWaitMs: 50, maxBytes: 64 * 1024 };

/** `tables`: those whose topics are looked at. Connects at once; throws KAFKA_UNREACHABLE, KAFKA_TOPIC_MISSING. */
export async function openGroupLag(kafka: KafkaClient, names: TopicNames, groupId: string, tables: readonly TableName[] = TABLES): Promise<GroupLag> {
  const topics = tables.map((table) => names.table[table]);
  const admin = kafka.admin();
  const reader = createPartitionReader(kafka);
  const guarded = async <T>(doing: string, action: () => Promise<T>): Promise<T> => {
    try {
      return await action();
    } catch (error) {
      throw toDifyEsError(error, doing);
    }
  };

  const close = async (): Promise<void> => void (await Promise.allSettled([admin.disconnect(), reader.close()]));
  try {
    await admin.connect();
    await reader.connect(topics);
  } catch (error) {
    await close();
    throw toDifyEsError(error, 'read the positions of the consumer group');
  }

  const offsetsOf = async (which: 'beginning' | 'end'): Promise<Map<string, bigint>> => {
    const all = new Map<string, bigint>();
    for (const table of tables) for (const [partition, offset] of await reader.offsets(names.table[table], which)) all.set(endKey(table, partition), offset);
    return all;
  };

  return {
    endOffsets: () => guarded('read the ends of the topics', () => offsetsOf('end')),
    lag: () =>
      guarded('read the lag of the consumer group', async () => {
        // First the positions: taken after the ends they may lie beyond them, and would pass for lost.
        const committed = await committedOffsets(admin, names, groupId, tables);
        const [beginnings, ends] = await Promise.all([offsetsOf('beginning'), offsetsOf('end')]);
        return [...ends].map(([key, end]) => {
          const [table, partition] = key.split('/') as [TableName, string];
          const position = committed.get(key) ?? null;
          const from = startOf(position, beginnings.get(key) ?? 0n, end);
          return { table, partition: Number(partition), committed: position, end, behind: end - from };
        });
      }),
    isDrainedTo: (ends) =>
      guarded('see whether the consumer group is drained', async () => {
        const committed = await committedOffsets(admin, names, groupId, tables);
        const [beginnings, now] = await Promise.all([offsetsOf('beginning'), offsetsOf('end')]);
        for (const [key, end] of ends) {
          const [table, partition] = key.split('/') as [TableName, string];
          // against the end of now: under traffic the group is soon beyond the end that was asked about
          const from = startOf(committed.get(key) ?? null, beginnings.get(key) ?? 0n, now.get(key) ?? end);
          if (!(await isBare(reader, names.table[table], Number(partition), from, end))) return false;
        }
        return true;
      }),
    close,
  };
}

/** Where the group would go on: a position that the log no longer has, on either side, starts at the beginning. */
export function startOf(committed: bigint | null, beginning: bigint, end: bigint): bigint {
  return committed === null || committed < beginning || committed > end ? beginning : committed;
}

/** No visible record from `from` up to `end`, and nothing that could become one. */
async function isBare(reader: PartitionReader, topic: string, partition: number, from: bigint, end: bigint): Promise<boolean> {
  let position = from;
  while (position < end) {
    const { messages, next, restarted } = await reader.read(topic, partition, position, PROBE);
    if (restarted || messages.some(({ offset }) => BigInt(offset) < end)) return false;
    if (next === position) return false;
    position = next;
  }
  return true;
}

/** Positions of the group; partitions without one are absent. kafkajs resets an expired one to a negative number. */
async function committedOffsets(admin: Admin, names: TopicNames, groupId: string, tables: readonly TableName[]): Promise<Map<string, bigint>> {
  const answer = await admin.fetchOffsets({ groupId, topics: tables.map((table) => names.table[table]) });
  const all = new Map<string, bigint>();
  for (const table of tables) {
    for (const { partition, offset } of answer.find(({ topic }) => topic === names.table[table])?.partitions ?? []) {
      if (BigInt(offset) >= 0n) all.set(endKey(table, partition), BigInt(offset));
    }
  }
  return all;
}
