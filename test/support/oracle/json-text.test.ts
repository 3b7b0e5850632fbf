import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hostileJson } from '../dify/edge-cases.ts';
import { canonicalJson, canonicalNumber, type Limits } from './json-text.ts';

const UNLIMITED: Limits = { depth: 1000, digits: 10_000, duplicateKeys: 'allow', infinite: 'allow' };

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

describe('what is valid', () => {
  test('any text is accepted exactly when JSON.parse accepts it', () => {
    const nearlyJson = fc.json().chain((text) => fc.tuple(fc.nat(text.length), fc.constantFrom('', '"', '\\', ',', '{', ']', '0', '-', 'e', '.', '\n', ' ', 'u', ':')).map(([at, piece]) => text.slice(0, at) + piece + text.slice(at + 1)));
    fc.assert(fc.property(fc.oneof(fc.json(), nearlyJson, fc.string({ unit: fc.constantFrom(...'{}[]",:\\0123456789eE+-.truefalsn u\n\t') })), (text) => {
      expect(canonicalJson(text, UNLIMITED) !== undefined).toBe(parses(text));
    }), { numRuns: 2000 });
  });

  test.each(Object.entries(hostileJson(100_000)).filter(([name]) => !/depth|digits|duplicate|beyond/.test(name)))('%s is judged as JSON.parse judges it', (_, text) => {
    expect(canonicalJson(text) !== undefined).toBe(parses(text));
  });

  test.each([['duplicate keys', false], ['duplicate keys by escape', false], ['duplicate keys deep inside', false], ['same key in different objects', true], ['depth 1000', false], ['depth 100,000', false], ['deep but allowed', true], ['number of 900 digits', true], ['number of 1,500 digits', false], ['fraction of 1,500 digits', false], ['number beyond a double', false]])(
    '%s: valid is %s', (name, valid) => {
      expect(canonicalJson(hostileJson(1000)[name] ?? '') !== undefined).toBe(valid);
    });

  test('the limits stand where the contract says: 900 levels and 1,000 digits', () => {
    const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
    expect([nested(900), nested(901), '1'.repeat(1000), '1'.repeat(1001)].map((text) => canonicalJson(text) !== undefined)).toEqual([true, false, true, false]);
  });
});

describe('what is equal', () => {
  test('white space and the way of escaping make no difference', () => {
    expect(canonicalJson(' {"\\u0061" : ["\\u65e5\\/", 1 ,\n2 ] }')).toBe(canonicalJson('{"a":["日/",1,2]}'));
  });

  test.each([
    ['the order of keys', '{"a":1,"b":2}', '{"b":2,"a":1}'], ['the order of elements', '[1,2]', '[2,1]'], ['the last digit of an integer above 2^53', '9007199254740993', '9007199254740992'],
    ['an integer and a float', '1', '1.0'], ['a number and its text', '1', '"1"'], ['null and an empty object', 'null', '{}'], ['a lone surrogate and the replacement character', '"\\ud800"', '"\ufffd"'],
    ['neighbouring doubles', '0.1', '0.10000000000000002'], ['a NUL and nothing', '"\\u0000"', '""'],
  ])('%s makes a difference', (_, left, right) => {
    expect(canonicalJson(left)).toBeDefined();
    expect(canonicalJson(left)).not.toBe(canonicalJson(right));
  });

  test('two values are equal exactly when they are the same, whatever they hold', () => {
    fc.assert(fc.property(fc.jsonValue(), fc.jsonValue(), (left, right) => {
      const same = JSON.stringify(left) === JSON.stringify(right);
      expect(canonicalJson(JSON.stringify(left), UNLIMITED) === canonicalJson(JSON.stringify(right, null, 2), UNLIMITED)).toBe(same);
    }), { numRuns: 1000 });
  });

  test.each([['1.10', '1.1'], ['1e5', '100000.0'], ['1E-07', '1.0E-7'], ['0.1234567890123456789', '0.12345678901234568'], ['-0', '0'], ['1e21', '1.0E21']])('%s is what Elasticsearch makes of %s', (before, after) => {
    expect(canonicalNumber(before)).toBe(canonicalNumber(after));
  });

  test('a number beyond a double is the string that Elasticsearch makes of it', () => {
    expect([canonicalNumber('1e400'), canonicalNumber('-1e400')]).toEqual(['"Infinity"', '"-Infinity"']);
  });
});
