import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planRequests, type PlannedRecord } from '../../../src/pipeline/kafka/request-plan.ts';

const limits = { batchBytes: 100, requestBytes: 250 };
const record = fc.record({ topic: fc.constantFrom('a', 'b'), partition: fc.nat(3), bytes: fc.integer({ min: 1, max: 300 }) });
const planned = (index: number, { topic, partition, bytes }: { topic: string; partition: number; bytes: number }): PlannedRecord => ({ topic, bytes, message: { key: String(index), value: null, partition } });

describe('requests', () => {
  it('keep the order of every partition and lose nothing', () => {
    fc.assert(
      fc.property(fc.array(record, { maxLength: 100 }), (records) => {
        const input = records.map((one, index) => planned(index, one));
        const sent = planRequests(input, limits).flatMap((request) => request.flatMap(({ topic, messages }) => messages.map((message) => ({ topic, message }))));
        expect(sent).toHaveLength(input.length);
        for (const topic of ['a', 'b']) {
          for (let partition = 0; partition <= 3; partition++) {
            const keys = (list: readonly { topic: string; message: { key?: unknown; partition: number } }[]) => list.filter((one) => one.topic === topic && one.message.partition === partition).map((one) => one.message.key);
            expect(keys(sent)).toEqual(keys(input));
          }
        }
      }),
    );
  });

  it('stay within both limits unless a single record is beyond them', () => {
    fc.assert(
      fc.property(fc.array(record, { maxLength: 100 }), (records) => {
        const sizes = new Map(records.map((one, index) => [String(index), one.bytes]));
        const size = (messages: readonly { key?: unknown }[]) => messages.reduce((sum, { key }) => sum + sizes.get(String(key))!, 0);
        for (const request of planRequests(records.map((one, index) => planned(index, one)), limits)) {
          const messages = request.flatMap((one) => one.messages);
          if (messages.length > 1) expect(size(messages)).toBeLessThanOrEqual(limits.requestBytes);
          for (const one of request) {
            for (let partition = 0; partition <= 3; partition++) {
              const batch = one.messages.filter((message) => message.partition === partition);
              if (batch.length > 1) expect(size(batch)).toBeLessThanOrEqual(limits.batchBytes);
            }
          }
        }
      }),
    );
  });

  it('name every topic once, since kafkajs would copy a batch to merge two', () => {
    const requests = planRequests([0, 1, 2, 3].map((index) => planned(index, { topic: index % 2 ? 'a' : 'b', partition: 0, bytes: 1 })), limits);
    expect(requests.map((request) => request.map(({ topic }) => topic))).toEqual([['b', 'a']]);
  });
});
