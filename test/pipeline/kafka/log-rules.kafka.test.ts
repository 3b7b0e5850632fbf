import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { decodeRow } from '../../../src/pipeline/encode/row-codec.ts';
import { ConfigResourceTypes } from '../../../src/pipeline/kafka/kafkajs.ts';
import { withAdmin } from '../../../src/pipeline/kafka/topics.ts';
import { isolate } from '../../support/servers.ts';
import { Bench, publish, row, RUNS } from './harness.ts';

/*
 * Two of the four rules of docs/02-ordering.md taken out: what becomes of the log then. The rules themselves hold in
 * fencing.kafka.test.ts and in test/ops/dead-letters; the other two are in test/pipeline/backfill/log-rules.pg.test.ts.
 */
const here = isolate(import.meta.filename);
let bench: Bench;
beforeAll(async () => {
  bench = new Bench(here.brokers, here.topicPrefix);
  await bench.setup();
});
afterAll(() => bench.close());

const texts = async (id: string): Promise<string[]> =>
  (await bench.messages(bench.names.table[RUNS])).map(({ value }) => decodeRow(value!, 4).get(3)!.toString()).filter((text) => text.startsWith(id));

it('without rule 1: a stopped writer that is not fenced, since it has a name of its own, lands behind its successor', async () => {
  const id = randomUUID();
  const stopped = await bench.publisher();
  await publish(stopped, row(id, `${id} U0`));
  const held = await stopped.begin();
  const successor = await bench.publisher();
  await publish(successor, row(id, `${id} U1`, '0/200'), row(id, `${id} U2`, '0/300'));
  await held.send([row(id, `${id} U1`, '0/200')]);
  await held.commit();
  expect((await texts(id)).at(-1)).toBe(`${id} U1`);
});

it('without rule 4: compaction keeps the last record of a row and not the one with the highest version', async () => {
  const [id, filler] = [randomUUID(), randomUUID()];
  const writer = await bench.publisher();
  await publish(writer, row(id, `${id} newer`, '0/300'));
  // as a dead letter that is sent again through the topic
  await publish(writer, row(id, `${id} older`, '0/200'));
  expect(await texts(id)).toEqual([`${id} newer`, `${id} older`]);
  const entries = { 'cleanup.policy': 'compact', 'segment.ms': '200', 'min.cleanable.dirty.ratio': '0.001', 'max.message.bytes': String(23 << 20) };
  await withAdmin(bench.kafka, 'alter', (admin) => admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: bench.names.table[RUNS], configEntries: Object.entries(entries).map(([name, value]) => ({ name, value })) }] }));
  // The segment that is written to is never cleaned: it ends with the next record in its partition.
  const others = [filler, ...Array.from({ length: 12 }, () => randomUUID())];
  while ((await texts(id)).length > 1) await publish(writer, ...others.map((other) => row(other, 'filler', '0/400')));
  expect(await texts(id)).toEqual([`${id} older`]);
}, 120_000);
