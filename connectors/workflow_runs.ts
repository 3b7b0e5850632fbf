import { date, defineConnector, float, integer, json, keyword, long, text } from '../src/connector/definition.ts';

/** Dify's reader dumps graph, inputs and outputs again and fails on a missing one: NULL becomes an empty object. */
export default defineConnector({
  table: 'workflow_runs',
  dataType: 'workflow_runs',
  index: 'workflow-runs',
  nulls: 'omit',
  searchText: ['inputs', 'outputs', 'error'],
  columns: {
    id: keyword(),
    tenant_id: keyword(),
    app_id: keyword(),
    workflow_id: keyword(),
    type: keyword(),
    triggered_from: keyword(),
    version: keyword(),
    graph: json({ whenNull: '{}' }),
    inputs: json({ whenNull: '{}' }),
    status: keyword(),
    outputs: json({ whenNull: '{}' }),
    error: text(),
    elapsed_time: float(),
    total_tokens: long(),
    total_steps: integer(),
    created_by_role: keyword(),
    created_by: keyword(),
    created_at: date(),
    finished_at: date(),
    exceptions_count: integer(),
  },
});
