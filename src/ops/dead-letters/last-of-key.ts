import type { KafkaClient } from '../../pipeline/kafka/client.ts';
import type { StoredLetter } from '../../pipeline/kafka/dead-letters.ts';
import { findRecords } from '../../pipeline/kafka/find-records.ts';
import { createPartitionReader } from '../../pipeline/kafka/partition-reader.ts';
import type { TopicNames } from '../../pipeline/kafka/topics.ts';

/**
 * The letters whose own record is still the last of its key in the log. One that compaction has taken away had a newer
 * one behind it. Reads the partitions from the oldest of these records to their ends: for the few letters whose rows are
 * gone and whose documents a policy keeps all the same.
 */
export async function lastOfTheirKeys(kafka: KafkaClient, names: TopicNames, encodeKey: (key: NonNullable<StoredLetter['key']>) => Buffer, letters: readonly StoredLetter[]): Promise<Set<string>> {
  const last = new Set<string>();
  const placed = letters.filter(({ key, origin }) => key !== null && origin.partition !== undefined && origin.offset !== undefined);
  if (placed.length === 0) return last;
  const reader = createPartitionReader(kafka);
  await reader.connect([...new Set(placed.map(({ table }) => names.table[table]))]);
  try {
    for (const some of Map.groupBy(placed, ({ table, origin }) => `${table}/${origin.partition}`).values()) {
      const topic = names.table[some[0]!.table];
      const partition = some[0]!.origin.partition!;
      const lastOffsets = new Map<string, string>();
      const wanted = new Set(some.map(({ key }) => encodeKey(key!).toString('latin1')));
      const from = some.map(({ origin }) => BigInt(origin.offset!)).reduce((a, b) => (a < b ? a : b));
      const to = (await reader.offsets(topic, 'end')).get(partition) ?? 0n;
      for await (const { key, offset } of findRecords(reader, { topic, partition, from, to }, (bytes) => wanted.has(bytes.toString('latin1')))) lastOffsets.set(key!.toString('latin1'), offset);
      for (const { id, key, origin } of some) if (lastOffsets.get(encodeKey(key!).toString('latin1')) === origin.offset) last.add(id);
    }
    return last;
  } finally {
    await reader.close();
  }
}
