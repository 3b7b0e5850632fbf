import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ConsumedRecord, Publisher, RowRecord } from '../../../src/core/contracts.ts';
import { DifyEsError } from '../../../src/core/errors.ts';
import { decodeRow } from '../../../src/pipeline/encode/row-codec.ts';
import { type LocalServer, ownServers } from '../../support/servers.ts';
import { benchFor } from './bench-for.ts';
import { Bench, collecting, publish, row, RUNS, Seen } from './harness.ts';

const servers = ownServers();
let broker: LocalServer;
let shared: Bench;
beforeAll(async () => {
  broker = await servers.kafka();
  shared = new Bench([broker.url], 'faults');
  await shared.setup();
});
afterAll(() => shared.close(), 30_000);

const textOf = ({ value }: { value: Buffer | null }): string => decodeRow(value!, 4).get(3)!.toString();

const isAway = (error: unknown): boolean => error instanceof DifyEsError && error.code === 'KAFKA_UNREACHABLE';

/** What a long-running verb does: the same records again until they are committed; anything but a broker away ends it. */
async function publishThrough(publisher: Publisher, records: readonly RowRecord[], failures: string[]): Promise<void> {
  for (;;) {
    let transaction;
    try {
      transaction = await publisher.begin();
      await transaction.send(records);
      await transaction.commit();
      return;
    } catch (error) {
      if (!isAway(error)) throw error;
      failures.push((error as { code: string }).code);
      await transaction?.abort();
      await sleep(200);
    }
  }
}

describe('a broker that is killed', () => {
  it('in the middle of publishing costs no record, and order is kept', async () => {
    const bench = benchFor(shared);
    const publisher = await bench.publisher();
    const seen = new Seen<ConsumedRecord>();
    const consumer = bench.consumer(`group-${randomUUID()}`);
    await consumer.start(async (delivery) => {
      seen.add(...delivery.records);
      await consumer.commit(delivery.table, delivery.partition, delivery.nextOffset).catch((error: unknown) => {
        if (!isAway(error)) throw error;
      });
    });
    const id = randomUUID();
    const failures: string[] = [];
    let done = false;
    const publishing = (async () => {
      for (let round = 0; round < 120; round++) {
        await publishThrough(publisher, [row(id, `${id} ${round}`), ...Array.from({ length: 20 }, () => row(randomUUID(), 'x'.repeat(4000)))], failures);
        await sleep(20);
      }
      done = true;
    })();
    for (let kill = 0; kill < 2 && !done; kill++) {
      await sleep(800);
      await broker.kill9();
      await sleep(300);
      await broker.start();
    }
    await publishing;
    expect(failures.length).toBeGreaterThan(0);
    const inLog = (await bench.messages(bench.names.table[RUNS])).map(textOf).filter((text) => text.startsWith(id));
    expect([...new Set(inLog)]).toEqual(Array.from({ length: 120 }, (_, round) => `${id} ${round}`));
    await seen.until((all) => all.some((record) => textOf(record) === `${id} 119`));
    const consumed = seen.items.map(textOf).filter((text) => text.startsWith(id));
    expect(new Set(consumed)).toEqual(new Set(inLog));
  });

  it('while a transaction is open loses that one and nothing else, and the state comes back', async () => {
    const bench = benchFor(shared);
    const control = await bench.control();
    const publisher = await bench.publisher({ control });
    const id = randomUUID();
    await publish(publisher, row(id, `${id} before`));
    await control.put(`test/${id}`, 'before');
    const open = await publisher.begin();
    await open.send([row(id, `${id} open`)]);
    await broker.kill9();
    await expect(open.commit()).rejects.toMatchObject({ code: 'KAFKA_UNREACHABLE' });
    await open.abort();
    await expect(control.put(`test/${id}`, 'while away')).rejects.toMatchObject({ code: 'KAFKA_UNREACHABLE' });
    await expect(publisher.begin()).rejects.toMatchObject({ code: 'KAFKA_UNREACHABLE' });
    await broker.start();
    await publishThrough(publisher, [row(id, `${id} after`)], []);
    await expect.poll(() => control.put(`test/${id}`, 'after').then(() => true, () => false), { timeout: 30_000 }).toBe(true);
    expect(control.get(`test/${id}`)).toBe('after');
    const texts = (await bench.messages(bench.names.table[RUNS])).map(textOf).filter((text) => text.startsWith(id));
    expect(texts).toEqual([`${id} before`, `${id} after`]);
    expect((await bench.control()).get(`test/${id}`)).toBe('after');
  });
});

describe('a broker that stops answering', () => {
  it('lets publisher, control log and consumer close all the same', async () => {
    const bench = benchFor(shared);
    const control = await bench.control();
    const publisher = await bench.publisher({ control });
    const seen = new Seen<ConsumedRecord>();
    const consumer = bench.consumer(`group-${randomUUID()}`);
    await consumer.start(collecting(consumer, seen));
    const open = await publisher.begin();
    await open.send([row(randomUUID(), 'open')]);
    broker.pause();
    try {
      // the broker is silent until all of them have ended: whoever waited for its answer would wait for ever
      await open.abort();
      await Promise.all([publisher.close(), consumer.stop(), control.close()]);
    } finally {
      broker.resume();
    }
  });
});
