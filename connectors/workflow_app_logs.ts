import { date, defineConnector, keyword } from '../src/connector/definition.ts';

export default defineConnector({
  table: 'workflow_app_logs',
  dataType: 'app_logs',
  index: 'workflow-app-logs',
  nulls: 'keep',
  searchText: [],
  columns: {
    id: keyword(),
    tenant_id: keyword(),
    app_id: keyword(),
    workflow_id: keyword(),
    workflow_run_id: keyword(),
    created_from: keyword(),
    created_by_role: keyword(),
    created_by: keyword(),
    created_at: date(),
  },
});
