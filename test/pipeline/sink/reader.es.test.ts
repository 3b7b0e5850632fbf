import type { estypes } from '@elastic/elasticsearch';
import { beforeAll, describe, expect, test } from 'vitest';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import type { TableName } from '../../../src/core/contracts.ts';
import { isolate } from '../../support/servers.ts';
import { TENANT } from './documents-of.ts';
import { Log, clientOf, harness, newId, putTemplates } from './sink-harness.ts';

/* The queries of Dify's repositories, and what Elasticsearch keeps of hostile values. */

const here = isolate(import.meta.filename);
const client = clientOf(here.elasticsearchUrl);
beforeAll(() => putTemplates(client, here.indexPrefix));

type Values = Readonly<Record<string, string | null>>;

/** Writes rows through the sink and makes them findable; returns the texts of their _source. */
async function write(table: TableName, rows: readonly { id: string; values: Values; createdAt?: string; tenantId?: string }[]): Promise<string[]> {
  const log = new Log(table);
  const h = harness(client, log, here.indexPrefix);
  const result = await h.handle(log, rows.map(({ id, values, createdAt, tenantId }) => log.row(id, 1, values, { ...(createdAt ? { createdAt } : {}), ...(tenantId ? { tenantId } : {}) })));
  expect(result.counts.applied).toBe(rows.length);
  await client.indices.refresh({ index: `${here.indexPrefix}-*` });
  return Promise.all(rows.map(async ({ id, createdAt, tenantId }) => (await h.document(log, id, createdAt?.slice(0, 7).replace('-', '.'), tenantId))!.text));
}

const search = async (table: TableName, tenantId: string, body: Pick<estypes.SearchRequest, 'query' | 'sort' | 'size'>): Promise<estypes.SearchHit<Record<string, unknown>>[]> =>
  (await client.search<Record<string, unknown>>({ index: `${here.indexPrefix}-${CONNECTORS[table].index}-${tenantId}-*`, ...body })).hits.hits;

describe('the readers of Dify find', () => {
  test('runs by keyword fields, newest first, over the months, with a cursor', async () => {
    const tenantId = newId();
    const common = { app_id: newId(), type: 'workflow', triggered_from: 'app-run', version: 'draft', created_by_role: 'account', created_by: newId(), graph: null, inputs: null };
    const rows = ['2025-09-30 23:59:59.999', '2025-10-01 00:00:00', '2025-10-01 00:00:00.5'].map((createdAt, n) => ({ id: newId(), createdAt, tenantId, values: { ...common, status: n === 1 ? 'failed' : 'succeeded' } }));
    await write('workflow_runs', rows);
    const filter = [{ term: { tenant_id: tenantId } }, { term: { app_id: common.app_id } }, { terms: { triggered_from: ['app-run', 'debugging'] } }];
    const all = await search('workflow_runs', tenantId, { query: { bool: { filter } }, sort: [{ created_at: 'desc' }] });
    expect(all.map(({ _id }) => _id)).toStrictEqual(rows.map(({ id }) => id).reverse());
    expect(all[0]!._source).toMatchObject({ graph: {}, inputs: {}, created_at: '2025-10-01T00:00:00.500000' });
    const older = await search('workflow_runs', tenantId, { query: { bool: { filter: [...filter, { range: { created_at: { lt: '2025-10-01T00:00:00.500000' } } }] } }, sort: [{ created_at: 'desc' }], size: 1 });
    expect(older.map(({ _id }) => _id)).toStrictEqual([rows[1]!.id]);
    expect(await search('workflow_runs', tenantId, { query: { bool: { filter: [...filter, { term: { status: 'failed' } }] } } })).toHaveLength(1);
  });

  test('nodes of a run under the renamed field, sorted by index and created_at', async () => {
    const [tenantId, run] = [newId(), newId()];
    const rows = [['3', '2025-10-10 00:00:03'], ['1', '2025-10-10 00:00:01'], ['3', '2025-10-10 00:00:02'], ['10', '2025-10-10 00:00:00']].map(([index, createdAt]) => ({ id: newId(), tenantId, createdAt: createdAt!, values: { workflow_run_id: run, index: index!, title: 'LLM 2', execution_metadata: '{"total_tokens": 3}', outputs: null } }));
    await write('workflow_node_executions', rows);
    const found = await search('workflow_node_executions', tenantId, { query: { bool: { filter: [{ term: { tenant_id: tenantId } }, { term: { workflow_execution_id: run } }, { term: { 'title.keyword': 'LLM 2' } }] } }, sort: [{ index: 'asc' }, { created_at: 'asc' }] });
    expect(found.map(({ _source }) => _source!['index'])).toStrictEqual([1, 3, 3, 10]);
    expect(found[1]!._id).toBe(rows[2]!.id);
    expect(found[0]!._source).toMatchObject({ metadata: { total_tokens: 3 } });
    expect(found[0]!._source).not.toHaveProperty('outputs');
    expect(found[0]!._source).not.toHaveProperty('search_text');
  });

  test('app logs by app, source and range of time', async () => {
    const tenantId = newId();
    await write('workflow_app_logs', [{ id: newId(), tenantId, createdAt: '2025-10-10 08:00:00', values: { created_from: 'web-app', created_by: null } }]);
    const found = await search('workflow_app_logs', tenantId, { query: { bool: { filter: [{ term: { created_from: 'web-app' } }, { range: { created_at: { gte: '2025-10-10T08:00:00', lte: '2025-10-10T08:00:00' } } }] } } });
    expect(found[0]!._source).toMatchObject({ created_by: null, created_at: '2025-10-10T08:00:00' });
  });

  test('words of the full text, which the disabled JSON fields cannot give, in Chinese too', async () => {
    const tenantId = newId();
    await write('workflow_runs', [{ id: newId(), tenantId, values: { inputs: '{"sys.query": "refund for order 4711", "n": "\\u4f60\\u597d"}', outputs: '{"answer": NaN, "text": "apology"}', error: 'TimeoutError in node' } }]);
    const hits = async (words: string): Promise<number> => (await search('workflow_runs', tenantId, { query: { match_phrase: { search_text: words } } })).length;
    expect([await hits('refund for order'), await hits('你好'), await hits('apology'), await hits('timeouterror'), await hits('sys.query')]).toStrictEqual([1, 1, 1, 1, 0]);
  });
});

describe('Elasticsearch takes', () => {
  const nested = (depth: number): string => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;

  /** JSON that the proof lets pass, as it came, or in another form where _source is written anew. */
  test.each<[string, string]>([
    ['a string', '"abc"'], ['a number', '42'], ['a boolean', 'true'], ['null', 'null'], ['an array of everything', '[1,"a",{"b":2},[3],null]'], ['nothing', '{}'],
    ['empty keys', '{"":{"":1}}'], ['keys with dots, also where they clash', '{"a.b":1,".":2,"..":3,".a":4,"a.":5,"a":6,"a.b.c":7}'], ['blank keys', '{" ":1,"  . ":2}'], ['keys like metadata fields', '{"_id":1,"_source":{},"search_text":"x"}'],
    ['very long keys', `{"${'k'.repeat(100_000)}":1}`], ['very many keys', `{${Array.from({ length: 20_000 }, (_, n) => `"k${n}":${n}`).join(',')}}`],
    ['the deepest nesting', nested(900)], ['the longest number', '9'.repeat(1000)], ['integers above 2^53', '{"a":9007199254740993,"b":-18446744073709551617}'],
    ['\\u0000', '{"a":"x\\u0000y","\\u0000":1}'], ['odd characters', '{"a":"\u2028\u007f\uffff😀","é":"/"}'], ['a string of 2 MB', `"${'x'.repeat(2_000_000)}"`],
  ])('%s in a JSON column and gives it back', async (_, json) => {
    const [text] = await write('workflow_runs', [{ id: newId(), values: { inputs: json } }]);
    // Through JS numbers, as this client reads; the next test but one looks at the digits.
    expect(JSON.parse(text!)).toHaveProperty('inputs', JSON.parse(JSON.stringify(JSON.parse(json))));
  });

  test('half a surrogate pair, escapes and the forms of numbers, and gives back what they mean', async () => {
    const [text] = await write('workflow_runs', [{ id: newId(), values: { inputs: '{"a": "\\ud800", "\\udc00x": "\\u00e9", "b": [1.10, 1e2, 1E-7, -0.5, 0.1234567890123456789], "c": "\\/"}' } }]);
    expect(JSON.parse(text!)).toMatchObject({ inputs: { a: '\ud800', '\udc00x': 'é', b: [1.1, 100, 1e-7, -0.5, 0.12345678901234568], c: '/' } });
  });

  test('every digit of an integer, also where _source is written anew', async () => {
    const tenantId = newId();
    await write('workflow_runs', [{ id: newId(), tenantId, values: { inputs: '{"n": 9007199254740993}', total_tokens: '9223372036854775807' } }]);
    const answer = await client.transport.request<Buffer>({ method: 'GET', path: `/${here.indexPrefix}-workflow-runs-${tenantId}-*/_search`, querystring: { format: 'yaml' } });
    expect(String(answer)).toContain('9007199254740993');
    expect(String(answer)).toContain('9223372036854775807');
  });

  test('values that are beyond their field: they stay in _source, and the document is not refused', async () => {
    const values = { total_tokens: '99999999999999999999', total_steps: 'abc', elapsed_time: 'NaN', exceptions_count: '2147483648', finished_at: 'infinity', status: 'é'.repeat(20_000), error: 'x'.repeat(100_000) };
    const [text] = await write('workflow_runs', [{ id: newId(), values }, { id: newId(), values: { elapsed_time: '-Infinity', finished_at: '0044-03-15 00:00:00 BC', total_steps: '1.5' } }]);
    expect(JSON.parse(text!)).toMatchObject({ total_steps: 'abc', elapsed_time: 'NaN', finished_at: 'infinity', status: values.status, error: values.error });
  });

  test('columns of other releases of Dify, whatever their names', async () => {
    const [text] = await write('workflow_node_executions', [{ id: newId(), values: { sequence_number: '17', metadata: 'of a column', _id: 'x', 'a..b': 'y', search_text: 'z', '': 'w' } }]);
    expect(JSON.parse(text!)).toMatchObject({ sequence_number: '17', column_metadata: 'of a column', column__id: 'x', column_a__b: 'y', column_search_text: 'z' });
  });

  test('a JSON text that is none, as a text in an object', async () => {
    for (const inputs of ['{"a": NaN}', '{"a":1,"a":2}', nested(901), '9'.repeat(1001), '{"a":1e400}', 'broken "']) {
      const [text] = await write('workflow_runs', [{ id: newId(), values: { inputs } }]);
      expect(JSON.parse(text!)).toMatchObject({ inputs: { _invalid_json: inputs } });
    }
  });
});

/** Learning tests: why the proof is as strict as it is. When one fails, the server has become more tolerant. */
test.each([['a key twice', '{"a":1,"a":2}'], ['a key twice by an escape', '{"a":1,"\\u0061":2}'], ['too deep', `${'['.repeat(1000)}${']'.repeat(1000)}`], ['a number too long', '9'.repeat(1001)], ['NaN', 'NaN']])('Elasticsearch refuses %s inside a disabled object', async (_, json) => {
  const index = `${here.indexPrefix}-workflow-runs-${TENANT}-2030.01`;
  const answer = await client.bulk({ operations: [`{"index":{"_index":"${index}","_id":"1"}}`, `{"id":"1","inputs":${json}}`] as unknown as object[] });
  expect(answer.items[0]!.index).toMatchObject({ status: 400, error: { type: 'document_parsing_exception' } });
});
