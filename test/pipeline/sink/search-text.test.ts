import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ID, documentOf, rowOf } from './documents-of.ts';

const searchText = (values: Readonly<Record<string, string | null>>, searchTextBytes = 32_768): string | undefined => documentOf(rowOf('workflow_node_executions', { id: ID, ...values }), { searchTextBytes })['search_text'] as string | undefined;

describe('search_text', () => {
  test('holds the string values of inputs, outputs, error and title, but no keys, numbers, graph or process data', () => {
    expect(searchText({ inputs: '{"sys.query": "how \\"many\\"?", "n": 3, "deep": [{"k": ["x"]}]}', outputs: '["y"]', process_data: '{"p": "hidden"}', error: 'Some "error"', title: 'LLM 2', status: 'failed' })).toBe('LLM 2 Some "error" y how "many"? x');
  });

  test('is absent when there is nothing to find, when it is off, and for tables without it', () => {
    expect(searchText({ inputs: '{"a": 1, "b": ""}', error: null, title: '' })).toBeUndefined();
    expect(searchText({ inputs: '{"a": "word"}' }, 0)).toBeUndefined();
    expect(documentOf(rowOf('workflow_app_logs', { id: ID, created_from: 'web-app' }), { searchTextBytes: 100 })).not.toHaveProperty('search_text');
  });

  test('holds characters where json.dumps has escapes, so that they count as what they are', () => {
    expect(searchText({ inputs: '{"a": "\\u4f60\\u597d, \\ud83d\\ude00 \\u00e9 \\u0022 \\u005c \\/ \\\\ end"}' })).toBe('你好, 😀 é " \\ / \\ end');
    expect(searchText({ inputs: JSON.stringify({ a: '你'.repeat(5) }).replaceAll('你', '\\u4f60') }, 15)).toBe('你'.repeat(5));
  });

  test('has blanks for line breaks, control characters and half a surrogate pair', () => {
    expect(searchText({ inputs: '{"a": "one\\ntwo\\tthree\\u0000four\\ud800five\\udc00six\\ud83d\\u0041"}' })).toBe('one two three four five six A');
  });

  test('holds the text of a JSON column that is no JSON', () => expect(searchText({ inputs: '{"a": NaN, "b": "word"}' })).toBe('{"a": NaN, "b": "word"}'));

  test('gives each column a share, so that a long one does not push out the error', () => {
    const found = searchText({ inputs: `{"a": "${'i'.repeat(1000)}"}`, outputs: `{"a": "${'o'.repeat(1000)}"}`, error: 'e'.repeat(1000), title: 'short' }, 400)!;
    expect(found).toHaveLength(400);
    for (const letter of ['i', 'o', 'e']) expect(found.split(letter).length, letter).toBeGreaterThan(100);
    expect(found).toMatch(/^short /);
  });
});

test('for any values it is whole characters within its limit', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'é', '你', '😀', '\\', '"', '\n', ' ') });
  fc.assert(
    fc.property(word, word, word, fc.integer({ min: 1, max: 60 }), fc.boolean(), (input, output, error, limit, ascii) => {
      const dumps = (value: unknown): string => (ascii ? JSON.stringify(value).replaceAll(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`) : JSON.stringify(value));
      const found = searchText({ inputs: dumps({ key: input }), outputs: dumps([output]), error }, limit) ?? '';
      expect(found.isWellFormed()).toBe(true);
      expect(found).not.toContain('\ufffd');
      const plain = [...found.replaceAll(/\s/g, '')].join('');
      expect(Buffer.byteLength(found)).toBeLessThanOrEqual(limit + 8);
      for (const character of new Set(plain)) expect(input + output + error).toContain(character);
    }),
    { numRuns: 2_000 },
  );
});
