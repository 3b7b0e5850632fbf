import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TABLES, type TableName } from '../../../src/core/contracts.ts';
import type { Assignment, RecordConsumer } from '../../../src/pipeline/kafka/consumer.ts';
import { ensureTopics } from '../../../src/pipeline/kafka/topics.ts';
import { isolate } from '../../support/servers.ts';
import { benchFor } from './bench-for.ts';
import { Bench, Seen } from './harness.ts';

/*
 * Sinks share the partitions of all four topics evenly: as a whole, and each topic for itself, since nearly all bytes
 * are in one of them. kafkajs deals them out in one round over all topics; this holds it to that on a real broker.
 */
const here = isolate(import.meta.filename);
let shared: Bench;
beforeAll(() => {
  shared = new Bench(here.brokers, here.topicPrefix);
});
afterAll(() => shared.close());

interface Member {
  readonly consumer: RecordConsumer;
  assigned: readonly Assignment[];
}

const countOf = ({ assigned }: Member, table?: TableName): number => assigned.filter((one) => table === undefined || one.table === table).reduce((sum, { partitions }) => sum + partitions.length, 0);

/** Differ by one at most. */
function expectEven(members: readonly Member[], table: TableName | undefined, total: number): void {
  const counts = members.map((member) => countOf(member, table)).sort((a, b) => a - b);
  expect(counts.reduce((sum, count) => sum + count, 0), table ?? 'all').toBe(total);
  expect(counts.at(-1)! - counts[0]!, `${table ?? 'all'}: ${counts.join(' ')}`).toBeLessThanOrEqual(1);
}

test.each([6, 4])('of %i partitions for each topic one, two, three and four sinks have the same share, also after one has left', async (partitions) => {
  const bench = benchFor(shared, `${here.topicPrefix}-${randomUUID().slice(0, 8)}`);
  await ensureTopics(bench.kafka, bench.names, { partitions, replicationFactor: 1 });
  const groupId = `${here.group}-${randomUUID()}`;
  const members: Member[] = [];
  const changes = new Seen<number>();
  const all = TABLES.length * partitions;

  const settled = (): Promise<unknown> => changes.until(() => {
    const given = members.flatMap(({ assigned }) => assigned.flatMap(({ table, partitions: some }) => some.map((partition) => `${table}/${partition}`)));
    return given.length === all && new Set(given).size === all && members.every((member) => countOf(member) > 0);
  });
  const expectAllEven = (): void => {
    expectEven(members, undefined, all);
    for (const table of TABLES) expectEven(members, table, partitions);
  };

  for (let joined = 1; joined <= 4; joined++) {
    const member: Member = { consumer: bench.consumer(groupId, { tables: TABLES }), assigned: [] };
    members.push(member);
    await member.consumer.start(async () => undefined, (assignment) => {
      member.assigned = assignment;
      changes.add(joined);
    });
    await settled();
    expectAllEven();
  }
  await members.shift()!.consumer.stop();
  await settled();
  expectAllEven();
});
