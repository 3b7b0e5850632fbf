import { date, defineConnector, keyword } from '../src/connector/definition.ts';

/** Dify has no reader for these documents; they are kept so that nothing of the tables is lost with PostgreSQL. */
export default defineConnector({
  table: 'workflow_node_execution_offload',
  dataType: 'offload',
  index: 'workflow-node-execution-offload',
  nulls: 'omit',
  searchText: [],
  columns: {
    id: keyword(),
    created_at: date(),
    tenant_id: keyword(),
    app_id: keyword(),
    node_execution_id: keyword(),
    type: keyword(),
    file_id: keyword(),
  },
});
