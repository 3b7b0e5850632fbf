import type { TenantRow } from './tenants.ts';

/** What Dify itself needs, word for word; printed once every tenant of a process can take it. */
export const DIFY_SETTINGS = {
  reads: { API_WORKFLOW_RUN_REPOSITORY: 'repositories.elasticsearch_api_workflow_run_repository.ElasticsearchAPIWorkflowRunRepository' },
  writes: {
    CORE_WORKFLOW_EXECUTION_REPOSITORY: 'core.repositories.elasticsearch_workflow_execution_repository.ElasticsearchWorkflowExecutionRepository',
    CORE_WORKFLOW_NODE_EXECUTION_REPOSITORY: 'core.repositories.elasticsearch_workflow_node_execution_repository.ElasticsearchWorkflowNodeExecutionRepository',
  },
} as const;

const PLAIN = [
  'The classes that read and write these documents are in no release of Dify: they are on a branch that was not merged.',
  "Their settings hold for a whole Dify process, and so for all of that process's tenants at once.",
] as const;

/** Every tenant is ready or switched. Where there is none nothing was looked at, and so nothing is ready. */
export function allReady(tenants: readonly TenantRow[]): boolean {
  return tenants.length > 0 && tenants.every(({ state }) => state !== 'open');
}

/** The statement, and the settings once all tenants are ready or switched. */
export function settingsLines(tenants: readonly TenantRow[]): string[] {
  if (tenants.length === 0) return [...PLAIN, 'There is no tenant: neither a row in PostgreSQL nor a document in Elasticsearch. Are DB_DATABASE and ELASTICSEARCH_INDEX_PREFIX the right ones?'];
  const open = tenants.filter(({ state }) => state === 'open');
  if (!allReady(tenants)) return [...PLAIN, `${open.length} of ${tenants.length} tenants are not ready: the settings are printed when all tenants are.`];
  const assignments = (settings: Readonly<Record<string, string>>): string[] => Object.entries(settings).map(([name, value]) => `  ${name}=${value}`);
  return [
    ...PLAIN,
    'All tenants are ready. In this order, each step with a restart of every process of Dify (API, workers):',
    '1. Reads. PostgreSQL stays the truth; going back is taking the setting out again.',
    ...assignments(DIFY_SETTINGS.reads),
    '2. Writes, when the reads have proven themselves. What is written after this exists in Elasticsearch alone.',
    ...assignments(DIFY_SETTINGS.writes),
    '3. dify-es cutover --tenant-id … --confirm, once every process runs with them.',
  ];
}
