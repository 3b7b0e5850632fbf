import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { members, sameJson, sameNumber, skipValue, stringValue } from '../../../src/ops/validate/json-compare.ts';

const same = (a: string, b: string): boolean => sameJson(Buffer.from(a), 0, Buffer.from(b), 0);

describe('sameJson', () => {
  it.each([
    ['{"a":1,"b":2}', '{ "b" : 2 ,\n"a":1}'],
    ['"\\u00e9\\/"', '"é/"'],
    ['{"\\u0061":1}', '{"a":1}'],
    ['[1, 2 ,[ ]]', '[1,2,[]]'],
    ['1e-05', '1.0E-5'],
    ['1e2', '100'],
    ['-0', '0'],
    ['100.0', '100'],
    ['0.12345678901234567890123', '0.12345678901234568'], // as Elasticsearch rewrites it, through a double
    ['90071992547409931234567890', '90071992547409931234567890'],
    ['{"x":{"b":[{"q":1,"p":2}],"a":null}}', '{"x":{"a":null,"b":[{"p":2,"q":1}]}}'],
    ['"\\ud83d\\ude00"', '"😀"'],
  ])('calls %s and %s equal', (a, b) => {
    expect(same(a, b)).toBe(true);
    expect(same(b, a)).toBe(true);
  });

  it.each([
    ['9007199254740993', '9007199254740992'], // one double
    ['-9007199254740993', '9007199254740993'],
    ['9007199254740993', '9007199254740992.0'],
    ['1', '"1"'],
    ['{"a":1}', '{"a":1,"b":2}'],
    ['{"a":1,"b":2}', '{"a":1}'],
    ['{"a":1,"b":2}', '{"b":1,"a":2}'],
    ['{}', '[]'],
    ['[1,2]', '[2,1]'],
    ['[1]', '[1,1]'],
    ['null', 'false'],
    ['"a"', '"a "'],
    ['"2025-10-10T08:25:41.123456"', '"2025-10-10T08:25:41.123457"'],
    ['0.1', '0.10000000000000002'],
    ['1e400', '1e500'], // both beyond any double
    ['{"a":{"b":{"c":1}}}', '{"a":{"b":{"c":2}}}'],
    ['{}', '{"":null}'],
    ['""', '"\\u0000"'],
  ])('tells %s from %s', (a, b) => {
    expect(same(a, b)).toBe(false);
    expect(same(b, a)).toBe(false);
  });

  it('finds any value equal to itself with its keys in another order and other blanks', () => {
    fc.assert(fc.property(fc.jsonValue({ depthSize: 'large' }), (value) => {
      expect(same(JSON.stringify(value), JSON.stringify(shuffled(value), null, 1))).toBe(true);
    }));
  });

  it('tells any two values apart that JSON tells apart', () => {
    fc.assert(fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
      expect(same(JSON.stringify(a), JSON.stringify(b))).toBe(canonical(a) === canonical(b));
    }));
  });

  it('is not slowed down exponentially by nested objects in another order with a difference at the bottom', () => {
    const nest = (depth: number, bottom: string, flip: boolean): string => (depth === 0 ? bottom : flip ? `{"x":0,"a":${nest(depth - 1, bottom, flip)}}` : `{"a":${nest(depth - 1, bottom, flip)},"x":0}`);
    const started = process.cpuUsage();
    expect(same(nest(900, '1', false), nest(900, '2', true))).toBe(false);
    expect(same(nest(900, '1', false), nest(900, '1', true))).toBe(true);
    expect(process.cpuUsage(started).user).toBeLessThan(5_000_000);
  });
});

describe('sameNumber', () => {
  it('agrees with exact integers of any length', () => {
    fc.assert(fc.property(fc.bigInt(), fc.bigInt(), (a, b) => {
      expect(sameNumber(String(a), String(b))).toBe(a === b);
      expect(sameNumber(String(a), String(a + 1n))).toBe(false);
      expect(sameNumber(String(a), `${a}.0`)).toBe(true);
    }));
  });

  it('takes any double in any of its spellings for the same number', () => {
    fc.assert(fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
      expect(sameNumber(JSON.stringify(value), value.toExponential())).toBe(true);
    }));
  });
});

describe('members', () => {
  it('gives the span of each value of any object', () => {
    fc.assert(fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (object) => {
      const text = Buffer.from(JSON.stringify(object));
      const found = members(text, 0);
      expect([...found.keys()].sort()).toEqual(Object.keys(object).sort());
      for (const [name, { start, end }] of found) expect(JSON.stringify(JSON.parse(text.toString('utf8', start, end)))).toBe(JSON.stringify(object[name]));
      expect(skipValue(text, 0)).toBe(text.length);
    }));
  });

  it('reads any string as JSON.parse does', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (value) => {
      const text = Buffer.from(JSON.stringify(value));
      expect(stringValue(text, 0, text.length)).toBe(value);
    }));
  });

  it('refuses a text that ends early', () => {
    expect(() => skipValue(Buffer.from('{"a":[1,2'), 0)).toThrow(SyntaxError);
  });
});

function shuffled(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shuffled);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).reverse().map(([key, inner]) => [key, shuffled(inner)]));
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== 'object' || value === null) return Object.is(value, -0) ? '0' : JSON.stringify(value);
  return `{${Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`).join()}}`;
}
