import { EventEmitter } from 'node:events';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { createRecordConsumer } from '../../../src/pipeline/kafka/consumer.ts';
import type { ConsumerRunConfig, EachBatchPayload, KafkaClient } from '../../../src/pipeline/kafka/kafkajs.ts';
import { topicNames } from '../../../src/pipeline/kafka/topics.ts';

/** kafkajs' consumer with events and batches given by hand. */
class FakeConsumer extends EventEmitter {
  readonly events = { GROUP_JOIN: 'join', REBALANCING: 'rebalancing', START_BATCH_PROCESS: 'start', CRASH: 'crash' };
  running: ConsumerRunConfig | undefined;
  connect(): void {}
  subscribe(): void {}
  run(config: ConsumerRunConfig): void {
    this.running = config;
    this.join();
  }
  join(): void {
    this.emit('join', { payload: { memberAssignment: {} } });
  }
}

it('knows a batch as stale that waited for a position behind markers while the group was joined anew', async () => {
  const fake = new FakeConsumer();
  const names = topicNames('test');
  const consumer = createRecordConsumer({ kafka: { consumer: () => fake } as unknown as KafkaClient, names, groupId: 'group', parseHeaders: () => ({ version: null, op: '', lsn: '', timeMs: 0 }), logger: pino({ level: 'silent' }) });
  const markersTaken = Promise.withResolvers<void>();
  const stale: boolean[] = [];
  const resolved: string[] = [];
  await consumer.start(async ({ records }, control) => {
    if (records.length === 0) await markersTaken.promise;
    else stale.push(control.isStale());
  });
  const topic = names.table.workflow_runs;
  fake.emit('start', { payload: { batchSize: 0, topic, partition: 0, lastOffset: '3' } });
  const batch = { topic, partition: 0, messages: [{ offset: '4', key: Buffer.from('k'), value: null, headers: {} }], lastOffset: () => '4' };
  const handled = fake.running!.eachBatch!({ batch, heartbeat: () => Promise.resolve(), resolveOffset: (offset: string) => void resolved.push(offset) } as unknown as EachBatchPayload);
  fake.join();
  markersTaken.resolve();
  await handled;
  expect([stale, resolved]).toEqual([[true], []]);
});
