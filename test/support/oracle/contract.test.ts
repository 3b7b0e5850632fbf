import { describe, expect, test } from 'vitest';
import { differingFields, expectedDocument, expectedIndex, type OracleTable, type RowText } from './contract.ts';

const document = (table: OracleTable, row: RowText): Record<string, string> => Object.fromEntries(expectedDocument(table, row));

describe('the document of a row', () => {
  test('a run has its NULL JSON columns as empty objects and leaves other NULLs out', () => {
    expect(document('workflow_runs', { id: 'a', graph: null, inputs: '{"b": 1}', outputs: null, error: null, finished_at: null })).toEqual({ id: '"a"', graph: '{}', inputs: '{"b":1}', outputs: '{}' });
  });

  test('a node execution has two columns renamed and leaves every NULL out', () => {
    expect(document('workflow_node_executions', { id: 'a', workflow_run_id: 'r', execution_metadata: '{}', inputs: null, predecessor_node_id: null, index: '3' })).toEqual({ id: '"a"', workflow_execution_id: '"r"', metadata: '{}', index: '3' });
  });

  test('an app log keeps its NULLs', () => {
    expect(document('workflow_app_logs', { id: 'a', created_from: null })).toEqual({ id: '"a"', created_from: 'null' });
  });

  test('numbers are the digits of the server, and what is no number is a string', () => {
    expect(document('workflow_runs', { total_tokens: '9223372036854775807', elapsed_time: 'NaN', total_steps: '-2' })).toEqual({ total_tokens: '9223372036854775807', elapsed_time: '"NaN"', total_steps: '-2' });
  });

  test.each([['2025-10-10 08:25:41', '2025-10-10T08:25:41'], ['2025-10-10 08:25:41.1234', '2025-10-10T08:25:41.123400'], ['2025-10-10 08:25:41.000001', '2025-10-10T08:25:41.000001'], ['infinity', 'infinity']])('the time %s is %s', (text, iso) => {
    expect(document('workflow_runs', { created_at: text })).toEqual({ created_at: JSON.stringify(iso) });
  });

  test.each(['{"a": NaN}', '', '{"a":1,"a":2}', '{"a": "line\nbreak"}'])('JSON text that is not valid is kept as text: %j', (text) => {
    expect(document('workflow_node_executions', { inputs: text })).toEqual({ inputs: `{"_invalid_json":${JSON.stringify(text)}}` });
  });

  test('a column that nobody names is a string, and left out when NULL', () => {
    expect(document('workflow_app_logs', { sequence_number: '7', extra: null })).toEqual({ sequence_number: '"7"' });
  });
});

test('differing fields are those that one side lacks and those that are not the same', () => {
  expect(differingFields(new Map([['a', '1'], ['b', '2'], ['c', '3']]), new Map([['b', '2'], ['c', '4'], ['d', '5']]))).toEqual(['a', 'c', 'd']);
});

describe('the index of a row', () => {
  const tenant = '00000000-0000-4000-8000-000000000001';
  test.each([
    ['workflow_runs', '2026-08-31 23:59:59.999999', `dify-workflow-runs-${tenant}-2026.08`], ['workflow_app_logs', '2026-09-01 00:00:00', `dify-workflow-app-logs-${tenant}-2026.09`],
    ['workflow_node_executions', '1969-12-31 00:00:00', `dify-workflow-node-executions-${tenant}-1969.12`], ['workflow_node_execution_offload', '9999-01-01 00:00:00', `dify-workflow-node-execution-offload-${tenant}-9999.01`],
  ] as const)('%s of %s is in %s', (table, time, index) => {
    expect(expectedIndex('dify', table, tenant, time)).toBe(index);
  });

  test.each(['infinity', '-infinity', '12026-01-01 00:00:00', '0044-03-15 12:00:00 BC'])('%s has none', (time) => {
    expect(expectedIndex('dify', 'workflow_runs', tenant, time)).toBeUndefined();
  });
});
