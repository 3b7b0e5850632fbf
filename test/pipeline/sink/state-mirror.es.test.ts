import { expect, test } from 'vitest';
import { StateMirror, probeWrite, stateIndex } from '../../../src/pipeline/sink/state-mirror.ts';
import { isolate } from '../../support/servers.ts';
import { clientOf } from './sink-harness.ts';

const here = isolate(import.meta.filename);
const client = clientOf(here.elasticsearchUrl);

test('what was never written is not there, and asking for it makes no index', async () => {
  const state = new StateMirror(client, here.indexPrefix);
  expect(await state.get('epoch')).toBeUndefined();
  expect(await state.entries('tenant/')).toStrictEqual([]);
  await state.remove('epoch');
  expect(await client.indices.exists({ index: stateIndex(here.indexPrefix) })).toBe(false);
});

test('a value is there at once for everybody, whatever its key and digits', async () => {
  const [mine, other] = [new StateMirror(client, here.indexPrefix), new StateMirror(client, here.indexPrefix)];
  const value = { epoch: 2, highWaterLsn: '16/B374D848', text: 'é "quoted" \u2028' };
  for (const key of ['epoch', 'tenant/switched/0f8fad5b-d9cb-469f-a165-70867728950e', 'odd key ?#%/..']) {
    await mine.put(key, value);
    expect(await other.get(key)).toStrictEqual(value);
    await other.put(key, 'newer');
    expect(await mine.get(key)).toBe('newer');
    await mine.remove(key);
    expect(await other.get(key)).toBeUndefined();
  }
});

test('entries are those with the beginning, sorted, more than one page of them', async () => {
  const state = new StateMirror(client, here.indexPrefix);
  await state.put('tenant/retention/b', 2);
  await state.put('tenant/retention/a', 1);
  await state.put('tenants-not', 3);
  expect(await state.entries('tenant/retention/')).toStrictEqual([['tenant/retention/a', 1], ['tenant/retention/b', 2]]);
  const many = Array.from({ length: 1_001 }, (_, n) => `many/${String(n).padStart(4, '0')}`);
  await client.bulk({ operations: many.flatMap((key) => [{ index: { _index: stateIndex(here.indexPrefix), _id: key } }, { key, value: '0', at: new Date().toISOString() }]) });
  expect((await state.entries<number>('many/')).map(([key]) => key)).toStrictEqual(many);
});

test('two processes that begin at once both succeed', async () => {
  const prefix = `${here.indexPrefix}-two`;
  await Promise.all(['a', 'b', 'c'].map((key) => new StateMirror(client, prefix).put(key, key)));
  expect((await new StateMirror(client, prefix).entries('')).map(([key]) => key)).toStrictEqual(['a', 'b', 'c']);
});

test('the probe says whether a write passes', async () => {
  expect(await probeWrite(client, here.indexPrefix)).toBe(true);
  await client.indices.putSettings({ index: stateIndex(here.indexPrefix), settings: { 'index.blocks.write': true } });
  expect(await probeWrite(client, here.indexPrefix)).toBe(false);
});

test('a key of odd length is refused by nobody', async () => {
  const key = `tenant/${'x'.repeat(400)}`;
  const state = new StateMirror(client, `${here.indexPrefix}-long`);
  await state.put(key, 1);
  expect(await state.get(key)).toBe(1);
});
