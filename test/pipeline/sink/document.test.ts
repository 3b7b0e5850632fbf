import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import { ByteWriter } from '../../../src/pipeline/sink/byte-writer.ts';
import { DocumentWriter } from '../../../src/pipeline/sink/document.ts';
import { ID, TENANT, documentOf, documentText, rowOf } from './documents-of.ts';

const run = (values: Readonly<Record<string, string | Buffer | null>>): ReturnType<typeof rowOf> => rowOf('workflow_runs', { id: ID, ...values });
const node = (values: Readonly<Record<string, string | Buffer | null>>): ReturnType<typeof rowOf> => rowOf('workflow_node_executions', { id: ID, ...values });

describe('NULL', () => {
  test('leaves the field out of runs and nodes, but is {} in the JSON columns of a run that the reader needs', () => {
    expect(documentText(run({ error: null, finished_at: null, graph: null, inputs: null, outputs: null, total_steps: null }))).toBe(`{"id":"${ID}","graph":{},"inputs":{},"outputs":{}}`);
    expect(documentText(node({ inputs: null, process_data: null, outputs: null, execution_metadata: null, workflow_run_id: null }))).toBe(`{"id":"${ID}"}`);
  });

  test('is kept as null in app logs', () => {
    expect(documentText(rowOf('workflow_app_logs', { id: ID, created_by: null, added_later: null }))).toBe(`{"id":"${ID}","created_by":null,"added_later":null}`);
  });
});

test('the renamed fields of a node carry the values of their columns, in any order of columns', () => {
  expect(documentOf(node({ execution_metadata: '{"a": 1}', tenant_id: TENANT, workflow_run_id: ID }))).toStrictEqual({ id: ID, metadata: { a: 1 }, tenant_id: TENANT, workflow_execution_id: ID });
});

describe('dates become ISO 8601 with T, and six digits or none', () => {
  test.each([
    ['2025-10-10 08:25:41', '2025-10-10T08:25:41'],
    ['2025-10-10 08:25:41.123456', '2025-10-10T08:25:41.123456'],
    ['2025-10-10 08:25:41.1', '2025-10-10T08:25:41.100000'],
    ['2025-10-10 08:25:41.00001', '2025-10-10T08:25:41.000010'],
    ['2025-10-10 08:25:41.000000', '2025-10-10T08:25:41'],
    ['0001-01-01 00:00:00', '0001-01-01T00:00:00'],
  ])('%s', (from, to) => expect(documentOf(run({ created_at: from }))['created_at']).toBe(to));

  test.each(['infinity', '-infinity', '0044-03-15 00:00:00 BC', '12025-10-10 08:25:41', '2025-10-10 08:25:41.', '2025-10-10 08:25:41.1234567', '2025-10-10 08:25:41+00', '', 'a"b\\c', '2025-10-10"08:25:41'])('what is no such date stays as it is: %j', (text) =>
    expect(documentOf(run({ finished_at: text }))['finished_at']).toBe(text));
});

describe('numbers keep every digit', () => {
  test.each(['0', '-7', '9223372036854775807', '123456789012345678901234567890', '0.1', '2.413', '1e-05', '1.5e+20', '-0.25', '1.7976931348623157e+308'])('%s', (digits) =>
    expect(documentText(run({ total_tokens: digits }))).toBe(`{"id":"${ID}","total_tokens":${digits}}`));

  test.each(['NaN', 'Infinity', '-Infinity', '', 'abc', '007', '-', '1.', '.5', '1e', '1e999', '0x10', '1_000', '--1', '1-1', '9'.repeat(1001)])('what JSON has no number for is a text: %j', (text) =>
    expect(documentOf(run({ elapsed_time: text }))['elapsed_time']).toBe(text));
});

describe('JSON columns', () => {
  test('are spliced in as they are, whatever JSON value they hold', () => {
    for (const json of ['{"b": 1, "a": [9007199254740993, 1.10]}', '[]', '"text"', 'null', '42', 'true', '{"a": "\\u4f60"}']) expect(documentText(run({ inputs: json }))).toBe(`{"id":"${ID}","inputs":${json}}`);
  });

  test.each(['{"a": NaN}', '', '{"a":1,"a":2}', 'not json', '{"a":1}}, "x": {', '{"a":"\n"}', '\u0007'])('keep a text that is not valid beside the others: %j', (text) => {
    expect(documentOf(run({ graph: '{}', inputs: text, outputs: '{"b":1}' }))).toStrictEqual({ id: ID, graph: {}, inputs: { _invalid_json: text }, outputs: { b: 1 } });
  });

  test('are all kept as text when they are not to be trusted', () => {
    expect(documentOf(run({ inputs: '{"a":1}', outputs: null, error: 'x' }), { distrustJson: true })).toStrictEqual({ id: ID, inputs: { _invalid_json: '{"a":1}' }, outputs: {}, error: 'x' });
  });

  test('that come again and again are proven by all of their bytes, and not by some', () => {
    const documents = new DocumentWriter(CONNECTORS.workflow_runs, { searchTextBytes: 0 });
    const written = (text: string): string => {
      const writer = new ByteWriter(64);
      documents.write(writer, run({ graph: text }));
      return writer.bytes.toString('utf8', 0, writer.length);
    };
    const text = JSON.stringify({ nodes: Array.from({ length: 60 }, (_, id) => ({ id, title: `node ${id}` })) });
    expect(text.length).toBeGreaterThan(1_200);
    for (let time = 0; time < 4; time++) expect(written(text)).toBe(`{"id":"${ID}","graph":${text}}`);
    for (let at = 0; at < text.length; at++) {
      for (const byte of ['"', '}', '\n']) {
        const other = text.slice(0, at) + byte + text.slice(at + 1);
        expect(written(other)).toBe(documentText(run({ graph: other })));
      }
      if (at % 40 === 0) expect(written(text)).toBe(`{"id":"${ID}","graph":${text}}`);
    }
    const lines = text.replaceAll(',', ',\n');
    for (let time = 0; time < 4; time++) expect(written(lines)).toBe(`{"id":"${ID}","graph":${lines.replaceAll('\n', ' ')}}`);
  });

  test('are counted, and the invalid ones of them', () => {
    const writer = new ByteWriter(64);
    const documents = new DocumentWriter(CONNECTORS.workflow_runs, { searchTextBytes: 0 });
    expect(documents.write(writer, run({ graph: '{}', inputs: 'NaN', outputs: null }))).toStrictEqual({ jsonColumns: 2, invalidJson: 1 });
  });
});

describe('columns that the connector does not name', () => {
  test('are carried as texts', () => expect(documentOf(run({ sequence_number: '17', note: 'a "b"', flag: null }))).toStrictEqual({ id: ID, sequence_number: '17', note: 'a "b"' }));

  test('get another name where theirs would have the whole document refused', () => {
    expect(documentOf(node({ metadata: 'x', execution_metadata: '{}', search_text: 'y', _id: 'z', 'a..b': 'w', column_metadata: 'v' }))).toStrictEqual({
      id: ID, metadata: {}, column_metadata: 'x', column_search_text: 'y', column__id: 'z', column_a__b: 'w', column_column_metadata: 'v',
    });
  });
});

test('for any row the document is one line of JSON that holds each value', () => {
  const cell = fc.option(fc.oneof(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'binary' }).map((text) => text.toWellFormed()), fc.json(), fc.constantFrom('"', '\\', '\n\r\t', '"}\n{"delete":{}}\n', '\u2028', '\u007f')), { nil: null });
  const columns = ['title', 'status', 'error', 'inputs', 'outputs', 'elapsed_time', 'index', 'finished_at', 'unknown'] as const;
  fc.assert(
    fc.property(fc.tuple(...columns.map(() => cell)), fc.constantFrom(0, 50), (cells, searchTextBytes) => {
      const values = Object.fromEntries(columns.map((column, at) => [column, cells[at]!]));
      const text = documentText(node(values), { searchTextBytes });
      expect(text).not.toMatch(/[\r\n]/);
      const document = JSON.parse(text) as Record<string, unknown>;
      for (const column of columns) {
        const value = values[column]!;
        if (value === null) expect(document).not.toHaveProperty(column);
        else if (column === 'inputs' || column === 'outputs') expect([{ _invalid_json: value }, tryParse(value)]).toContainEqual(document[column]);
        else if (column === 'index' || column === 'elapsed_time') expect([value, tryParse(value)]).toContainEqual(document[column]);
        else if (column !== 'finished_at') expect(document[column]).toBe(value);
      }
    }),
    { numRuns: 1_000 },
  );
});

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

test('bytes that are no UTF-8 neither end the program nor the document', () => {
  const text = documentText(node({ title: Buffer.from([0xff, 0x22, 0xc3]), inputs: Buffer.from([0x22, 0xff]) }), { searchTextBytes: 10 });
  expect(Object.keys(JSON.parse(text) as object)).toStrictEqual(['id', 'title', 'inputs', 'search_text']);
});
