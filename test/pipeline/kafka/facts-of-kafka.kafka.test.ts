import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ConfigResourceTypes } from '../../../src/pipeline/kafka/kafkajs.ts';
import { ensureTopics, withAdmin } from '../../../src/pipeline/kafka/topics.ts';
import { type LocalServer, ownServers } from '../../support/servers.ts';
import { Bench, PARTITIONS, publish, row, RUNS } from './harness.ts';

/*
 * What docs/decisions/0018-synced-by-append.md leans on. The broker keeps in recovery-point-offset-checkpoint up to where
 * each partition is synced; here it writes the file twice a second instead of once a minute,
 * and its tasks begin at once instead of 30 s after its start.
 */
const servers = ownServers();
let broker: LocalServer;
let bench: Bench;
beforeAll(async () => {
  broker = await servers.kafka({ settings: { 'log.flush.offset.checkpoint.interval.ms': '500', 'log.initial.task.delay.ms': '500' } });
  bench = new Bench([broker.url], 'facts');
  await bench.setup();
});
afterAll(() => bench.close());

const PATIENT = { timeout: 60_000, interval: 200 };
const NOTHING = Array.from({ length: PARTITIONS }, () => 0n);

/** Up to which offset each partition is synced, by its number; the file begins with its version and a count. */
async function synced(topic: string): Promise<bigint[]> {
  const text = await readFile(join(broker.home, 'data', 'recovery-point-offset-checkpoint'), 'utf8');
  const lines = text.trim().split('\n').slice(2).map((line) => line.split(' '));
  return NOTHING.map((none, partition) => BigInt(lines.find(([name, number]) => name === topic && number === String(partition))?.[2] ?? none));
}

async function isWhollySynced(topic: string): Promise<boolean> {
  const to = await synced(topic);
  const ends = await withAdmin(bench.kafka, 'look', (admin) => admin.fetchTopicOffsets(topic));
  return ends.every(({ partition, high }) => to[partition]! > 0n && to[partition] === BigInt(high));
}

test('flush.ms alone syncs nothing; setup puts flush.messages=1 beside it, and all that is acknowledged is synced', async () => {
  const { [RUNS]: runs, workflow_app_logs: logs } = bench.names.table;
  await withAdmin(bench.kafka, 'alter', (admin) => admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: runs, configEntries: [{ name: 'flush.ms', value: '1000' }] }] }));
  const publisher = await bench.publisher();
  const some = Array.from({ length: 50 }, () => row(randomUUID(), 'text'));
  await publish(publisher, ...some, ...some.map((one) => ({ ...one, table: 'workflow_app_logs' as const })));
  await expect.poll(() => isWhollySynced(logs), PATIENT).toBe(true);
  // As long as the slot waits before it is confirmed.
  await sleep(3_000);
  expect(await synced(runs)).toEqual(NOTHING);

  expect((await ensureTopics(bench.kafka, bench.names, { partitions: PARTITIONS, replicationFactor: 1 })).altered).toEqual([runs]);
  await publish(publisher, ...some);
  await expect.poll(() => isWhollySynced(runs), PATIENT).toBe(true);
});
