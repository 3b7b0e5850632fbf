import { expect, it } from 'vitest';

/** A file of the page: it is written for browsers and has no types. */
const { parseJson } = (await import('../../../src/ops/console/page/json.js' as string)) as { parseJson: (text: string) => unknown };
const plain = (value: unknown): unknown => {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  return typeof value === 'string' ? value : JSON.parse((value as { raw: string }).raw);
};

it.each(['{}', '[]', '"a"', '1', 'null', ' { "a" : [ 1 , -2.5e3, true , {"b":null} ] } ', '"\\u5929\\n\\"\\\\"', '{"":{"":[]}}', '[[[]]]'])('reads %s as JSON.parse does', (text) => {
  expect(plain(parseJson(text))).toEqual(JSON.parse(text));
});

it('keeps the digits of numbers', () => {
  expect((parseJson('{"n":123456789012345678901.50}') as Map<string, unknown>).get('n')).toEqual({ raw: '123456789012345678901.50' });
});

it.each(['', '{', '[1,]', '{"a"}', '{"a":}', '01x', '"', 'nul', '{} {}', '[1 2]', '['.repeat(5_000)])('refuses what is no JSON: %s', (text) => {
  expect(() => parseJson(text)).toThrow(SyntaxError);
});
