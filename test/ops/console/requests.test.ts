import { expect, it } from 'vitest';
import { placeOf, searchRequest, wordsOf } from '../../../src/ops/console/requests.ts';

const TENANT = '11111111-2222-4333-8444-555555555555';
const request = (text: string) => searchRequest(new URLSearchParams(text));

it('takes words apart as a shell does, and a single quote sign for a sign', () => {
  expect(wordsOf('invoice "late payment"  天気予報 ')).toEqual(['invoice', 'late payment', '天気予報']);
  expect(wordsOf('say "hello')).toEqual(['say', 'hello']);
  expect(wordsOf('  ')).toEqual([]);
});

it('finds without words too, and narrows by tenant and status', () => {
  expect(request('')).toMatchObject({ words: [], tenantIds: [], status: null, limit: 25 });
  expect(request(`words=a&tenant=${TENANT.toUpperCase()}&status=failed&limit=100`)).toMatchObject({ words: ['a'], tenantIds: [TENANT], status: 'failed', limit: 100 });
});

it.each([['tenant=*'], ['tenant=abc'], [`words=${'x'.repeat(500)}`], ['limit=0'], ['limit=1e9'], ['limit=x'], [`status=${'x'.repeat(99)}`]])('says what is wrong with %s', (text) => {
  expect(typeof request(text)).toBe('string');
});

it('takes only an id for a place', () => {
  expect(placeOf(new URLSearchParams({ index: 'i', id: TENANT }))).toEqual({ index: 'i', id: TENANT });
  for (const bad of [{ index: '', id: TENANT }, { index: 'i', id: '../_search' }, { index: 'x'.repeat(300), id: TENANT }]) expect(placeOf(new URLSearchParams(bad))).toBeNull();
});
