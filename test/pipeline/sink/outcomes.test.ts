import { describe, expect, test } from 'vitest';
import { errors } from '@elastic/elasticsearch';
import { classifyItem, itemsOf } from '../../../src/pipeline/sink/outcomes.ts';
import { failureOf, failureOfAnswer } from '../../../src/pipeline/sink/elastic-errors.ts';

const item = (status: number, errorType?: string): Parameters<typeof classifyItem>[0] => ({ status, errorType, field: undefined });

describe('an item of a bulk', () => {
  test.each([
    [200, undefined, false, 'applied'], [201, undefined, false, 'applied'], [200, undefined, true, 'applied'], [404, undefined, true, 'applied'], [404, 'index_not_found_exception', true, 'applied'],
    [409, 'version_conflict_engine_exception', false, 'stale'], [409, 'version_conflict_engine_exception', true, 'stale'],
    [429, 'es_rejected_execution_exception', false, 'retry'], [429, 'circuit_breaking_exception', false, 'retry'], [503, 'unavailable_shards_exception', false, 'retry'], [502, undefined, false, 'retry'], [504, undefined, false, 'retry'],
    [403, 'cluster_block_exception', false, 'retry'], [429, 'cluster_block_exception', false, 'retry'], [403, 'cluster_block_exception', true, 'retry'], [400, 'validation_exception', false, 'retry'], [404, 'index_not_found_exception', false, 'retry'], [500, 'null_pointer_exception', false, 'retry'], [409, 'something_else', false, 'retry'],
    [400, 'document_parsing_exception', false, 'refused-parse'], [400, 'mapper_parsing_exception', false, 'refused-parse'], [400, 'illegal_argument_exception', false, 'refused-parse'],
    [400, 'index_closed_exception', false, 'refused'], [400, 'invalid_index_name_exception', false, 'refused'], [400, 'illegal_argument_exception', true, 'refused'], [413, undefined, false, 'refused'],
    [401, 'security_exception', false, 'stop'], [403, 'security_exception', false, 'stop'],
  ] as const)('%s %s, delete %s: %s', (status, type, deletes, kind) => expect(classifyItem(item(status, type), deletes).kind).toBe(kind));

  test('counts against a document only when the refusal can be its own', () => {
    const whenAlone = (status: number, type: string): unknown => {
      const verdict = classifyItem(item(status, type), false);
      return verdict.kind === 'retry' ? verdict.whenAlone : verdict.kind;
    };
    expect(whenAlone(429, 'es_rejected_execution_exception')).toBe('too-large-for-elasticsearch');
    expect(whenAlone(500, 'null_pointer_exception')).toBe('refused');
    for (const [status, type] of [[429, 'cluster_block_exception'], [503, 'unavailable_shards_exception'], [400, 'validation_exception'], [403, 'cluster_block_exception']] as const) expect(whenAlone(status, type), type).toBeUndefined();
  });
});

describe('the answer to a bulk', () => {
  test('is read in the order of the request', () => {
    expect(itemsOf({ errors: true, items: [{ index: { status: 201 } }, { delete: { status: 404 } }, { index: { status: 400, error: { type: 'document_parsing_exception' } } }] }, 3)).toStrictEqual([item(201), item(404), item(400, 'document_parsing_exception')]);
  });

  test('gives the name of a field and nothing else of a reason', () => {
    const reason = "[1:34] failed to parse field [finished_at] of type [date] in document with id 'x'. Preview of field's value: 'field [secret] of type [x]'";
    expect(itemsOf({ items: [{ index: { status: 400, error: { type: 't', reason } } }] }, 1)![0]!.field).toBe('finished_at');
    expect(itemsOf({ items: [{ index: { status: 400, error: { type: 't', reason: 'a value with field [a secret]' } } }] }, 1)![0]!.field).toBeUndefined();
  });

  test.each([undefined, null, '', '<html>', {}, { items: [] }, { items: [{ index: { status: 200 } }] }, { items: [{ index: { status: 200 } }, {}] }, { items: [{ index: { status: 200 } }, { index: { status: '200' } }] }, { items: [null, null] }])('is none when it is %j instead of two items', (answer) =>
    expect(itemsOf(answer, 2)).toBeUndefined());
});

describe('a request that failed', () => {
  test.each([
    [401, 'security_exception', 'auth'], [403, 'security_exception', 'rights'], [403, 'cluster_block_exception', 'blocked'], [413, 'unknown', 'too-large'], [429, 'es_rejected_execution_exception', 'blocked'],
    [503, 'master_not_discovered_exception', 'blocked'], [502, 'unknown', 'blocked'], [504, 'unknown', 'blocked'], [500, 'unknown', 'blocked'], [501, 'unknown', 'blocked'], [400, 'x_content_parse_exception', 'refused'],
  ] as const)('%s %s is %s', (status, type, kind) => expect(failureOfAnswer(status, type).kind).toBe(kind));

  const answered = (statusCode: number, body: unknown): Error => new errors.ResponseError({ body, statusCode, headers: {}, warnings: null, meta: {} as never });

  test('with a page that is not of Elasticsearch condemns no document', () => {
    for (const [status, body] of [[404, '<html>no such page</html>'], [400, ''], [405, { error: 'text' }]] as const) expect(failureOf(answered(status, body)).kind, String(status)).toBe('blocked');
    expect(failureOf(answered(400, { error: { type: 'illegal_argument_exception' } })).kind).toBe('refused');
  });

  test('without an answer may have been carried out', () => {
    for (const error of [new errors.ConnectionError('x'), new errors.TimeoutError('x'), new errors.DeserializationError('x', 'y')]) expect(failureOf(error).kind).toBe('lost');
  });

  test('by a fault of this program is not taken for one of the server', () => expect(() => failureOf(new TypeError('x is not a function'))).toThrow('x is not a function'));
});
