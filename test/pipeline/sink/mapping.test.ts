import { describe, expect, test } from 'vitest';
import { defineConnector, keyword, date } from '../../../src/connector/definition.ts';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import { mappingOf } from '../../../src/pipeline/sink/mapping.ts';
import { templateOf } from '../../../src/pipeline/sink/templates.ts';

const settings = { prefix: 'dify', shards: 2, replicas: 0, refreshInterval: '30s', totalFieldsLimit: 2000, searchText: true };

describe('the mapping', () => {
  test('has the types that the queries of Dify rely on', () => {
    const { properties } = mappingOf(CONNECTORS.workflow_node_executions, { searchText: true });
    const types = Object.fromEntries(Object.entries(properties).map(([field, { type }]) => [field, type]));
    expect(types).toMatchObject({ id: 'keyword', tenant_id: 'keyword', workflow_execution_id: 'keyword', index: 'integer', node_type: 'keyword', error: 'text', title: 'text', elapsed_time: 'float', created_at: 'date', metadata: 'object', search_text: 'text' });
    expect(properties['title']).toHaveProperty('fields.keyword.type', 'keyword');
    expect(properties['inputs']).toStrictEqual({ type: 'object', enabled: false });
    expect(types).not.toHaveProperty('execution_metadata');
  });

  test('excludes search_text from _source, and leaves _source alone where there is none', () => {
    expect(mappingOf(CONNECTORS.workflow_runs, { searchText: true })._source).toStrictEqual({ excludes: ['search_text'] });
    expect(mappingOf(CONNECTORS.workflow_runs, { searchText: false })).not.toHaveProperty('_source');
    expect(mappingOf(CONNECTORS.workflow_app_logs, { searchText: true })).not.toHaveProperty('_source');
  });

  test('follows a column that is added to a connector', () => {
    const columns = { id: keyword(), tenant_id: keyword(), created_at: date(), added: keyword({ field: 'renamed' }) };
    const connector = defineConnector({ ...CONNECTORS.workflow_app_logs, columns });
    expect(Object.keys(mappingOf(connector, { searchText: false }).properties)).toStrictEqual(['id', 'tenant_id', 'created_at', 'renamed']);
  });
});

describe('the template', () => {
  test('has a name, a pattern and a priority of its own', () => {
    const { name, body } = templateOf(CONNECTORS.workflow_runs, settings);
    expect(name).toBe('dify-cdc-workflow-runs-template');
    expect(body.index_patterns).toStrictEqual(['dify-workflow-runs-*-*-*-*-*-*.*']);
    expect(body.priority).toBeGreaterThan(0);
    expect(body.template.settings).toStrictEqual({ 'index.number_of_shards': '2', 'index.number_of_replicas': '0', 'index.refresh_interval': '30s', 'index.mapping.total_fields.limit': '2000', 'index.gc_deletes': '1h' });
  });

  test('has another fingerprint for another content, and the same for the same', () => {
    const print = (more: object): string => templateOf(CONNECTORS.workflow_runs, { ...settings, ...more }).body._meta.fingerprint;
    expect(print({})).toBe(print({}));
    expect(new Set([print({}), print({ shards: 3 }), print({ searchText: false }), print({ codec: 'best_compression' })]).size).toBe(4);
  });
});
