import { describe, expect, it } from 'vitest';
import { mgetItems, searchPage } from '../../../src/ops/validate/raw-documents.ts';

describe('answers of Elasticsearch as text', () => {
  it('keep every digit of a version, and the source as it came', () => {
    const text = Buffer.from('{"docs":[{"_index":"i","_id":"a\\"b","_version":9007199254740993,"found":true,"_source":{ "n": 9007199254740995 }},{"_index":"i","_id":"b","found":false},{"_index":"x","_id":"c","error":{"root_cause":[],"type":"index_not_found_exception"}},{"_index":"y","_id":"d","error":{"type":"index_closed_exception"}}]}');
    const [found, absent, noIndex, closed] = mgetItems(text);
    expect(found).toMatchObject({ kind: 'found', document: { index: 'i', id: 'a"b', version: 9007199254740993n } });
    const source = found?.kind === 'found' ? found.document.source : null;
    expect(text.toString('utf8', source!.start, source!.end)).toBe('{ "n": 9007199254740995 }');
    expect([absent?.kind, noIndex?.kind]).toEqual(['absent', 'absent']);
    expect(closed).toEqual({ kind: 'failed', type: 'index_closed_exception' });
  });

  it('say where a page ends and which shards were silent', () => {
    const page = searchPage(Buffer.from('{"pit_id":"p2","took":1,"_shards":{"total":2,"failed":1},"hits":{"hits":[{"_index":"i","_id":"a","_version":1,"sort":[1]},{"_index":"i","_id":"b","_version":2,"sort":[9007199254740993]}]}}'));
    expect(page).toMatchObject({ after: '[9007199254740993]', pit: 'p2', failedShards: 1 });
    expect(page.documents.map(({ id }) => id)).toEqual(['a', 'b']);
    expect(searchPage(Buffer.from('{"_shards":{"failed":0},"hits":{"hits":[]}}'))).toEqual({ documents: [], after: null, pit: null, failedShards: 0 });
  });
});
