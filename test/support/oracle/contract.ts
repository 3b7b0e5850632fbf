import { canonicalJson, canonicalNumber } from './json-text.ts';

/*
 * What a row's document has to be, worked out from Dify's reader contract and independently of the product: nothing in
 * this folder imports from src or connectors.
 */

export const ORACLE_TABLES = ['workflow_runs', 'workflow_app_logs', 'workflow_node_executions', 'workflow_node_execution_offload'] as const;
export type OracleTable = (typeof ORACLE_TABLES)[number];

/** A row as the server prints it (DateStyle ISO), by column name. */
export type RowText = Readonly<Record<string, string | null>>;

/** Field name to the canonical JSON text of its value. */
export type CanonicalDocument = ReadonlyMap<string, string>;

type Kind = 'string' | 'number' | 'date' | 'json';

interface TableContract {
  readonly index: string;
  readonly columns: Readonly<Record<string, Kind>>;
  readonly renamed: Readonly<Record<string, string>>;
  /** What NULL becomes in a column the contract knows; undefined: the field is left out. */
  readonly whenNull: (kind: Kind) => string | undefined;
}

const strings = (...names: string[]): Record<string, Kind> => Object.fromEntries(names.map((name) => [name, 'string']));

const CONTRACTS: Readonly<Record<OracleTable, TableContract>> = {
  workflow_runs: {
    index: 'workflow-runs',
    columns: {
      ...strings('id', 'tenant_id', 'app_id', 'workflow_id', 'type', 'triggered_from', 'version', 'status', 'error', 'created_by_role', 'created_by'),
      graph: 'json', inputs: 'json', outputs: 'json', elapsed_time: 'number', total_tokens: 'number', total_steps: 'number', exceptions_count: 'number', created_at: 'date', finished_at: 'date',
    },
    renamed: {},
    whenNull: (kind) => (kind === 'json' ? '{}' : undefined),
  },
  workflow_app_logs: {
    index: 'workflow-app-logs',
    columns: { ...strings('id', 'tenant_id', 'app_id', 'workflow_id', 'workflow_run_id', 'created_from', 'created_by_role', 'created_by'), created_at: 'date' },
    renamed: {},
    whenNull: () => 'null',
  },
  workflow_node_executions: {
    index: 'workflow-node-executions',
    columns: {
      ...strings('id', 'tenant_id', 'app_id', 'workflow_id', 'triggered_from', 'workflow_run_id', 'predecessor_node_id', 'node_id', 'node_type', 'title', 'status', 'error', 'created_by_role', 'created_by', 'node_execution_id', 'agent_workspace_binding_id'),
      index: 'number', inputs: 'json', process_data: 'json', outputs: 'json', execution_metadata: 'json', elapsed_time: 'number', created_at: 'date', finished_at: 'date',
    },
    renamed: { workflow_run_id: 'workflow_execution_id', execution_metadata: 'metadata' },
    whenNull: () => undefined,
  },
  workflow_node_execution_offload: {
    index: 'workflow-node-execution-offload',
    columns: { ...strings('id', 'tenant_id', 'app_id', 'node_execution_id', 'type', 'file_id'), created_at: 'date' },
    renamed: {},
    whenNull: () => undefined,
  },
};

/** `{prefix}-workflow-runs-`: what the index names of a table begin with; tenant and month follow. */
export function indexStart(prefix: string, table: OracleTable): string {
  return `${prefix}-${CONTRACTS[table].index}-`;
}

/** The index a row belongs to; undefined when its created_at has no month between the years 0001 and 9999. */
export function expectedIndex(prefix: string, table: OracleTable, tenantId: string, createdAt: string): string | undefined {
  const [year = '', month = ''] = createdAt.split('-');
  if (year.length !== 4 || month.length !== 2 || createdAt.includes('BC')) return undefined;
  return `${indexStart(prefix, table)}${tenantId}-${year}.${month}`;
}

export function expectedDocument(table: OracleTable, row: RowText): CanonicalDocument {
  const contract = CONTRACTS[table];
  const document = new Map<string, string>();
  for (const [column, text] of Object.entries(row)) {
    const kind = contract.columns[column];
    const value = text !== null ? expectedValue(kind ?? 'string', text) : kind && contract.whenNull(kind);
    if (value !== undefined) document.set(contract.renamed[column] ?? column, value);
  }
  return document;
}

function expectedValue(kind: Kind, text: string): string {
  switch (kind) {
    case 'string': return JSON.stringify(text);
    case 'number': return /^-?[0-9]/.test(text) ? canonicalNumber(text) : JSON.stringify(text);
    case 'date': return JSON.stringify(expectedDate(text));
    case 'json': return canonicalJson(text) ?? `{"_invalid_json":${JSON.stringify(text)}}`;
    default: return kind satisfies never;
  }
}

/** `2026-01-02 03:04:05.1` to `2026-01-02T03:04:05.100000`, as Python's isoformat writes it; `infinity` stays. */
function expectedDate(text: string): string {
  const [whole = '', fraction] = text.replace(' ', 'T').split('.');
  return fraction === undefined ? whole : `${whole}.${fraction.padEnd(6, '0')}`;
}

/** The fields in which two documents differ, sorted; empty when they are equal. */
export function differingFields(expected: CanonicalDocument, found: CanonicalDocument): string[] {
  const names = new Set([...expected.keys(), ...found.keys()]);
  return [...names].filter((name) => expected.get(name) !== found.get(name)).sort();
}
