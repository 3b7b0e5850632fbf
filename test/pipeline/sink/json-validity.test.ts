import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteWriter } from '../../../src/pipeline/sink/byte-writer.ts';
import { MAX_DEPTH, MAX_NUMBER_LENGTH, proveJson } from '../../../src/pipeline/sink/json-validity.ts';

/** The proof and what it leaves of the text, at an odd place of a buffer with other bytes around it. */
function prove(text: string | Buffer, offset = 3): { valid: boolean; text: string } {
  const bytes = Buffer.from(text as string);
  const writer = new ByteWriter(bytes.length + offset + 9);
  writer.bytes.fill(0x22);
  bytes.copy(writer.bytes, offset);
  const valid = proveJson(writer.bytes, writer.words, offset, offset + bytes.length);
  return { valid, text: writer.bytes.toString('utf8', offset, offset + bytes.length) };
}

const valid = (text: string): boolean => prove(text).valid;

/** By other means: JSON.parse, then the tokens of what it accepted. */
function oracle(text: string): boolean {
  try {
    JSON.parse(text);
  } catch {
    return false;
  }
  const open: (Set<string> | undefined)[] = [];
  const tokens = [...text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g)].map(([token]) => token);
  for (const [at, token] of tokens.entries()) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(undefined);
    else if (token === '}' || token === ']') open.pop();
    else if (token.startsWith('"') && tokens[at + 1] === ':') {
      const keys = open.at(-1)!;
      const key = JSON.parse(token) as string;
      if (keys.has(key)) return false;
      keys.add(key);
    } else if (/^-?\d/.test(token) && (token.length > MAX_NUMBER_LENGTH || (/[.eE]/.test(token) && !Number.isFinite(Number(token))))) return false;
    if (open.length > MAX_DEPTH) return false;
  }
  return true;
}

describe('a column is spliced in only when', () => {
  test.each([
    '{}', '[]', '""', '0', '-0', 'null', 'true', 'false', ' {"a" : [1, 2.5e-3, "x"]} ', '{"":1}', '{"a.b":1,"a":2}', '"\\ud800"', '"\\u0000"', '{"a":{"a":{"a":1}}}',
    '[{"a":1},{"a":1}]', '{"a":1,"\\u0062":2}', '[9007199254740993,18446744073709551617]', '1e300', '-1.5E+10', '"é你😀"', '{"__proto__":1}',
  ])('JSON.parse accepts it: %s', (text) => expect(valid(text)).toBe(true));

  test.each([
    '', ' ', '{', '}', '[', ']', '{"a"}', '{"a":}', '{a:1}', "{'a':1}", '{"a":1,}', '[1,]', '[,1]', '[1 2]', '{"a":1 "b":2}', '"', '"\\"', '"\\x"', '"\\u12g4"', '"\\u123"', '"a\nb"', '"a\tb"', '"\u0000"',
    'NaN', '{"a":NaN}', 'Infinity', '-Infinity', '-', '+1', '01', '-01', '1.', '.5', '1e', '1e+', '0x1', 'tru', 'truex', 'nul', 'undefined', '{"a":1}}', '{"a":1}{"b":2}', '[1]]', '1 1', '\ufeff{}', '{"a":1}\u0000', '/**/1', '\v1', '[1}', '{"a":1]',
  ])('it is not something like %j', (text) => {
    expect(() => JSON.parse(text) as unknown).toThrow();
    expect(valid(text)).toBe(false);
  });

  test('no object holds a key twice, however the key is written', () => {
    for (const text of ['{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '{"\\u0061":1,"a":2}', '{"\\u0061":1,"\\u0061":2}', '{"":1,"":2}', '{"x":{"y":1,"z":{"k":[],"k":0}}}', '{"é":1,"\\u00e9":2}', '{"\\ud83d\\ude00":1,"😀":2}', '{"a":{"b":1},"a":3}']) expect(valid(text), text).toBe(false);
    // A lone surrogate and the character that stands for one in UTF-8 are two keys.
    expect(valid('{"\\ud800":1,"\\ufffd":2}')).toBe(true);
    expect(valid('{"a":{"k":1},"b":{"k":1},"k":1}')).toBe(true);
  });

  test('a key is found twice among few and among many', () => {
    for (const count of [2, 31, 32, 33, 34, 100, 5000]) {
      const keys = Array.from({ length: count }, (_, i) => `"k${i}":${i}`);
      expect(valid(`{${keys.join(',')}}`), `${count} keys`).toBe(true);
      for (const twice of [0, count - 1]) expect(valid(`{${keys.join(',')},"k${twice}":0}`), `${count} keys, number ${twice} twice`).toBe(false);
    }
  });

  test('keys of equal hash are no duplicates', () => {
    // 31 * 'A' + 'a' = 31 * 'B' + 'B': the same sum, two keys.
    expect(valid('{"Aa":1,"BB":2}')).toBe(true);
    expect(valid('{"Aa":1,"BB":2,"Aa":3}')).toBe(false);
  });

  test('it is not nested deeper than Elasticsearch reads', () => {
    const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
    expect(valid(nested(MAX_DEPTH))).toBe(true);
    expect(valid(nested(MAX_DEPTH + 1))).toBe(false);
    expect(valid('{"a":'.repeat(MAX_DEPTH) + '1' + '}'.repeat(MAX_DEPTH))).toBe(true);
    expect(valid('{"a":'.repeat(MAX_DEPTH + 1) + '1' + '}'.repeat(MAX_DEPTH + 1))).toBe(false);
  });

  test('no number is longer than Elasticsearch reads, and none would come back as the text "Infinity"', () => {
    expect(valid('9'.repeat(1000))).toBe(true);
    expect(valid('9'.repeat(1001))).toBe(false);
    expect(valid(`1e${'0'.repeat(1200)}5`)).toBe(false);
    expect(valid('1e308')).toBe(true);
    for (const text of ['1e309', '-1e400', '[1e99999]', `${'9'.repeat(400)}.5`]) expect(valid(text), text).toBe(false);
    expect(valid('1e-400')).toBe(true);
  });
});

test('raw line breaks, legal between tokens only, become blanks, so that a document stays one line', () => {
  const { valid: proven, text } = prove('{\r\n  "a":\n [1,\r2]\n}\n');
  expect(proven).toBe(true);
  expect(text).toBe('{    "a":  [1, 2] } ');
});

test('bytes that are no UTF-8 do no harm', () => {
  for (const bytes of [[0x22, 0xff, 0x22], [0xc3], [0x22, 0xc3, 0x22], [0x80, 0x80], [0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x2c, 0x22, 0xfe, 0x22, 0x3a, 0x32, 0x7d]]) expect(typeof prove(Buffer.from(bytes)).valid).toBe('boolean');
});

test('an object whose keys are made to collide takes no longer than one whose keys are not', () => {
  // All words over {Aa, BB} of one length have one hash: compared one by one, 2^15 of them would be 5 * 10^8 comparisons.
  const words = Array.from({ length: 1 << 15 }, (_, n) => Array.from({ length: 15 }, (_, bit) => ((n >> bit) & 1 ? 'Aa' : 'BB')).join(''));
  const began = process.cpuUsage();
  expect(valid(`{${words.map((word) => `"${word}":0`).join(',')}}`)).toBe(true);
  expect(process.cpuUsage(began).user).toBeLessThan(5_000_000);
});

const blank = fc.constantFrom('', '', ' ', '\n', '\t', ' \r\n ');
const key = fc.oneof(fc.constantFrom('a', 'b', '', 'a.b', 'ключ', '😀', '\\', '"', '__proto__'), fc.string({ maxLength: 6, unit: 'binary' }));
/** JSON texts with doubled keys, odd numbers, escapes and blanks. */
const { json } = fc.letrec<{ json: string; value: string }>((tie) => ({
  json: fc.tuple(blank, tie('value'), blank).map((parts) => parts.join('')),
  value: fc.oneof(
    { depthSize: 'medium', withCrossShrink: true },
    fc.constantFrom('null', 'true', 'false', '0', '-0', '1e5', '1.25', '-9007199254740993', '""', '"\\u0041\\n"', '"\\ud83d\\ude00"', '"\\ud83d"'),
    fc.string({ unit: 'binary' }).map((text) => JSON.stringify(text)),
    fc.double().map((number) => JSON.stringify(number)),
    fc.array(tie('json'), { maxLength: 4 }).map((items) => `[${items.join(',')}]`),
    fc.array(fc.tuple(blank, key, blank, tie('json')), { maxLength: 40, size: 'small' }).map((members) => `{${members.map(([before, name, after, inner]) => `${before}${JSON.stringify(name)}${after}:${inner}`).join(',')}}`),
  ),
}));

test('for any JSON the proof says what JSON.parse and a look at the keys say, and leaves its meaning', () => {
  fc.assert(
    fc.property(json, fc.nat(7), (text, offset) => {
      const proof = prove(text, offset);
      expect(proof.valid).toBe(oracle(text));
      if (proof.valid) {
        expect(proof.text).not.toMatch(/[\r\n]/);
        expect(JSON.parse(proof.text)).toStrictEqual(JSON.parse(text));
      }
    }),
    { numRuns: 3_000 },
  );
});

test('for any text a character away from JSON too', () => {
  const splinter = fc.constantFrom('', '"', '\\', '{', '}', '[', ']', ',', ':', '0', '-', 'e', '.', ' ', '\n', '\u0001', 'u', '\u007f', 'é', 'n');
  fc.assert(
    fc.property(json, fc.nat(), fc.nat(2), splinter, (text, place, cut, put) => {
      const at = text.length === 0 ? 0 : place % text.length;
      // In UTF-8, as the server sends it: half a surrogate pair does not exist there.
      const broken = (text.slice(0, at) + put + text.slice(at + cut)).toWellFormed();
      expect(valid(broken), JSON.stringify(broken)).toBe(oracle(broken));
    }),
    { numRuns: 20_000 },
  );
});
