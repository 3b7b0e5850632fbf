import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { TABLES } from '../../src/core/contracts.ts';
import { stateKeys, type BackfillRequired, type EpochRecord } from '../../src/core/state.ts';
import { StateMirror } from '../../src/pipeline/sink/state-mirror.ts';
import { openDurableState, type DurableState } from '../../src/run/durable-state.ts';
import { Bench, silent } from '../pipeline/kafka/harness.ts';
import { clientOf } from '../pipeline/sink/sink-harness.ts';
import { lyingElasticsearch, type LyingElasticsearch } from '../support/faults/lying-elasticsearch.ts';
import { isolate } from '../support/servers.ts';

/* A Kafka without an epoch beside an Elasticsearch that still recovers: it answers, but not for the index of the state. */
const here = isolate(import.meta.filename);
const EPOCH: EpochRecord = { epoch: 3, systemIdentifier: '7', timeline: 2, highWaterLsn: '0/900', slot: 's', at: 'then' };
const RECOVERING = { kind: 'answer', status: 503, body: { error: { type: 'no_shard_available_action_exception' }, status: 503 } } as const;
let elastic: LyingElasticsearch;
let mirror: StateMirror;

beforeAll(async () => {
  elastic = await lyingElasticsearch(here.elasticsearchUrl);
  mirror = new StateMirror(clientOf(here.elasticsearchUrl), here.indexPrefix);
});
afterAll(() => elastic.close());

/** Ours on a Kafka that has its topics and nothing else. */
async function emptyKafka(name: string): Promise<() => Promise<DurableState>> {
  const bench = new Bench(here.brokers, `${here.topicPrefix}-${name}`);
  onTestFinished(() => bench.close());
  await bench.setup();
  const client = clientOf(elastic.url);
  return async () => {
    const state = await openDurableState({ kafka: bench.kafka, controlTopic: bench.names.control, client, prefix: here.indexPrefix, log: silent });
    bench.later(() => state.close());
    return state;
  };
}

const recovering = (): void => elastic.lie(({ path }) => (path.endsWith('/_doc/epoch') ? RECOVERING : undefined));

test('who finds no epoch anywhere, and then cannot ask, is not told that there is none', async () => {
  elastic.lie(undefined);
  const state = await (await emptyKafka('first'))();
  expect(await state.readEpoch()).toBeUndefined();
  recovering();
  await expect(state.readEpoch()).rejects.toMatchObject({ code: 'ES_UNREACHABLE' });
});

test('the state is not opened without the epoch that Elasticsearch has, and is restored once it answers', async () => {
  const open = await emptyKafka('lost');
  await mirror.put(stateKeys.epoch, EPOCH);
  recovering();
  await expect(open()).rejects.toMatchObject({ code: 'ES_UNREACHABLE' });
  elastic.lie(undefined);
  const state = await open();
  expect(await state.readEpoch()).toEqual(EPOCH);
  expect(TABLES.map((table) => state.control.get<BackfillRequired>(stateKeys.required(table))?.reason)).toEqual(TABLES.map(() => 'kafka-data-lost'));
  recovering();
  expect(await state.readEpoch(), 'from Kafka alone').toEqual(EPOCH);
});
