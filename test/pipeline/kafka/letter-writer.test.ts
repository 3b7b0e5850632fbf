import { expect, it } from 'vitest';
import type { DeadLetter } from '../../../src/core/contracts.ts';
import { createLetterWriter } from '../../../src/pipeline/kafka/dead-letters.ts';
import type { KafkaClient } from '../../../src/pipeline/kafka/kafkajs.ts';
import { topicNames } from '../../../src/pipeline/kafka/topics.ts';

/** Each send waits for its outcome here. */
class Brokers {
  readonly sends: PromiseWithResolvers<{ baseOffset: string }[]>[] = [];
  readonly client = {
    producer: () => ({
      connect: async () => undefined,
      disconnect: async () => undefined,
      send: () => {
        const outcome = Promise.withResolvers<{ baseOffset: string }[]>();
        this.sends.push(outcome);
        return outcome.promise;
      },
    }),
  } as unknown as KafkaClient;

  async sent(count: number): Promise<void> {
    while (this.sends.length < count) await new Promise((done) => setImmediate(done));
  }
}

const letter = (fill: number): DeadLetter => ({ cause: 'undecodable', detail: '', table: 'workflow_runs', key: null, version: null, origin: { stage: 'sink' }, value: Buffer.alloc(1 << 20, fill) });

it('returns only when no letter is under way any more, also when one has failed: their values lie in memory that is given back then', async () => {
  const brokers = new Brokers();
  const writer = createLetterWriter(brokers.client, topicNames('t'));
  let ended = false;
  const parking = writer.park([letter(1), letter(2)]).finally(() => (ended = true));
  parking.catch(() => undefined);
  await brokers.sent(1);
  brokers.sends[0]!.reject(new Error('the broker went away'));
  // Two letters of 1 MiB go in two batches.
  await brokers.sent(2);
  expect(ended).toBe(false);
  brokers.sends[1]!.resolve([{ baseOffset: '7' }]);
  await expect(parking).rejects.toThrow(/write to t\.cdc\.dlq/);
  await writer.close();
});
