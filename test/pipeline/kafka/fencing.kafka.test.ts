import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stateKeys } from '../../../src/core/state.ts';
import { decodeRow } from '../../../src/pipeline/encode/row-codec.ts';
import type { KafkaClient } from '../../../src/pipeline/kafka/kafkajs.ts';
import { isolate } from '../../support/servers.ts';
import { benchFor } from './bench-for.ts';
import { Bench, publish, row, RUNS } from './harness.ts';

const here = isolate(import.meta.filename);
let shared: Bench;
beforeAll(async () => {
  shared = new Bench(here.brokers, here.topicPrefix);
  await shared.setup();
});
afterAll(() => shared.close());

const texts = async (bench: Bench, id: string): Promise<string[]> =>
  (await bench.messages(bench.names.table[RUNS])).map(({ value }) => decodeRow(value!, 4).get(3)!.toString()).filter((text) => text.startsWith(id));

describe('two processes with one role', () => {
  it('the first is fenced: its open transaction is gone and it may never begin another', async () => {
    const bench = benchFor(shared);
    const transactionalId = randomUUID();
    const id = randomUUID();
    const first = await bench.publisher({ transactionalId });
    const second = await bench.publisher({ transactionalId });
    const open = await first.begin();
    await open.send([row(id, `${id} of the first`)]);
    await publish(second, row(id, `${id} of the second`));
    await expect(open.commit()).rejects.toMatchObject({ code: 'KAFKA_FENCED' });
    await open.abort();
    await expect(first.begin()).rejects.toMatchObject({ code: 'KAFKA_FENCED' });
    await publish(second, row(id, `${id} goes on`));
    expect(await texts(bench, id)).toEqual([`${id} of the second`, `${id} goes on`]);
  });

  it('the first learns it at its next send, and the second is left in peace', async () => {
    const bench = benchFor(shared);
    const transactionalId = randomUUID();
    const id = randomUUID();
    const first = await bench.publisher({ transactionalId });
    await publish(first, row(id, `${id} 1`));
    const second = await bench.publisher({ transactionalId });
    const held = await second.begin();
    await held.send([row(id, `${id} 2`)]);
    const late = await first.begin();
    await expect(late.send([row(id, `${id} too late`)])).rejects.toMatchObject({ code: 'KAFKA_FENCED' });
    await late.abort();
    await held.commit();
    expect(await texts(bench, id)).toEqual([`${id} 1`, `${id} 2`]);
  });

  it('a role that another has taken is not taken back after an abort', async () => {
    const bench = benchFor(shared);
    const transactionalId = randomUUID();
    const first = await bench.publisher({ transactionalId });
    const stopped = await first.begin();
    await stopped.send([row(randomUUID(), 'x')]);
    const second = await bench.publisher({ transactionalId });
    await second.begin();
    await stopped.abort();
    await expect(first.begin()).rejects.toMatchObject({ code: 'KAFKA_FENCED' });
  });
});

describe('a role whose name was lost with Kafka\'s data', () => {
  it('is not claimed again, since the state of this process would make the new topics look like the old ones', async () => {
    const bench = benchFor(shared);
    const control = await bench.control();
    const transactionalId = randomUUID();
    const publisher = await bench.publisher({ transactionalId, control });
    const first = await publisher.begin();
    await control.remove(stateKeys.writer(transactionalId));
    await first.send([row(randomUUID(), 'x')]);
    await first.abort();
    await expect(publisher.begin()).rejects.toMatchObject({ code: 'KAFKA_DATA_LOST' });
    await control.refresh();
    expect(control.get(stateKeys.writer(transactionalId))).toBeUndefined();
  });
});

describe('a process that died with an open transaction', () => {
  it('holds readers back no longer than until its successor begins', async () => {
    const bench = benchFor(shared);
    const transactionalId = randomUUID();
    const id = randomUUID();
    const dead = await bench.publisher({ transactionalId, transactionTimeoutMs: 60_000 });
    await (await dead.begin()).send([row(id, `${id} never`)]);
    const successor = await bench.publisher({ transactionalId });
    await publish(successor, row(id, `${id} now`));
    expect(await texts(bench, id)).toEqual([`${id} now`]);
  });

  it('holds them back no longer than its timeout when nobody follows', async () => {
    const bench = benchFor(shared);
    const id = randomUUID();
    const dead = await bench.publisher({ transactionTimeoutMs: 1_000 });
    await (await dead.begin()).send([row(id, `${id} never`)]);
    await publish(await bench.publisher(), row(id, `${id} other`));
    expect(await texts(bench, id)).toEqual([`${id} other`]); // waits up to 30 s, and fails beyond
  });
});

/** As `kafka`, but the first transaction of all is committed only when the broker has ended it, as behind an answer that came too late. */
function slowToClaim(kafka: KafkaClient, onExpired: () => Promise<unknown> = async () => undefined): KafkaClient {
  let isFirst = true;
  const producer: KafkaClient['producer'] = (options) => {
    const real = kafka.producer(options);
    return {
      ...real,
      async transaction() {
        const transaction = await real.transaction();
        if (!isFirst) return transaction;
        isFirst = false;
        let sent: Parameters<typeof transaction.send>[0];
        return {
          ...transaction,
          send: (record) => transaction.send((sent = record)),
          async commit() {
            for (let ended = false; !ended; ) ended = await sleep(500).then(() => transaction.send(sent)).then(() => false, () => true);
            await onExpired();
            await transaction.commit();
          },
        };
      },
    };
  };
  return Object.create(kafka, { producer: { value: producer } }) as KafkaClient;
}

describe('a claim that the broker ended after its timeout', () => {
  it('is no fencing: the same process claims again and goes on', async () => {
    const bench = benchFor(shared);
    const id = randomUUID();
    const publisher = await bench.publisher({ kafka: slowToClaim(bench.kafka), transactionTimeoutMs: 1_000 });
    await expect(publisher.begin()).rejects.toMatchObject({ code: 'KAFKA_UNREACHABLE' });
    await publish(publisher, row(id, `${id} again`));
    expect(await texts(bench, id)).toEqual([`${id} again`]);
  });

  it('is not made once more when another has taken the role meanwhile', async () => {
    const bench = benchFor(shared);
    const transactionalId = randomUUID();
    const id = randomUUID();
    const second = await bench.publisher({ transactionalId });
    const first = await bench.publisher({ transactionalId, kafka: slowToClaim(bench.kafka, () => publish(second, row(id, `${id} 1`))), transactionTimeoutMs: 1_000 });
    await expect(first.begin()).rejects.toMatchObject({ code: 'KAFKA_FENCED' });
    await expect(first.begin()).rejects.toMatchObject({ code: 'KAFKA_FENCED' });
    await publish(second, row(id, `${id} 2`));
    expect(await texts(bench, id)).toEqual([`${id} 1`, `${id} 2`]);
  });
});

describe('a transaction that the broker ended after its timeout', () => {
  it('is no fencing: the same process begins again and goes on', async () => {
    const bench = benchFor(shared);
    const id = randomUUID();
    const publisher = await bench.publisher({ transactionTimeoutMs: 1_000 });
    const slow = await publisher.begin();
    await slow.send([row(id, `${id} expired`)]);
    let failure: unknown;
    // The broker looks for expired transactions every 10 s.
    for (let waited = 0; waited < 30 && !failure; waited++) {
      await sleep(1_000);
      failure = await slow.send([row(id, `${id} expired`)]).then(() => undefined, (error: unknown) => error);
    }
    expect(failure).toMatchObject({ code: 'KAFKA_UNREACHABLE' });
    await slow.abort();
    await publish(publisher, row(id, `${id} again`));
    expect(await texts(bench, id)).toEqual([`${id} again`]);
  });
});
