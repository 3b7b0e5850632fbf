import type { TableName } from '../../core/contracts.ts';
import { qualifiedName, type TableSource } from '../../pipeline/backfill/table-source.ts';
import type { Source } from '../validate/source.ts';

/** A row as it was when it was chosen: every later writer gives it another xmin. */
export interface Candidate {
  readonly id: string;
  readonly xmin: string;
}

/** Children before parents: whoever still reads PostgreSQL never meets a node without its run. */
export const CHILDREN_FIRST: readonly TableName[] = ['workflow_node_execution_offload', 'workflow_node_executions', 'workflow_app_logs', 'workflow_runs'];

/** Where the children of a table's rows are, by the column that names the parent. */
const CHILDREN: Readonly<Partial<Record<TableName, readonly (readonly [table: TableName, column: string])[]>>> = {
  workflow_node_executions: [['workflow_node_execution_offload', 'node_execution_id']],
  workflow_runs: [['workflow_node_executions', 'workflow_run_id'], ['workflow_app_logs', 'workflow_run_id']],
};

export interface Scope {
  readonly tenantId: string;
  /** Exclusive; `2025-10-31 00:00:00`, UTC. */
  readonly before: string;
}

/** The next rows of the tenant before the date, by id. The identity index of `setup` begins with id and holds both columns. */
export async function nextCandidates(source: Source, table: TableSource, { tenantId, before }: Scope, after: string | null, limit: number): Promise<Candidate[]> {
  const text = `SELECT id::text, xmin::text FROM ONLY ${table.name}
    WHERE tenant_id = $1::${table.idType} AND created_at < $2::timestamp AND ($3::text IS NULL OR id > $3::${table.idType}) ORDER BY id LIMIT ${limit}`;
  const rows = await source.query(text, [tenantId, before, after]);
  return (rows as [string, string][]).map(([id, xmin]) => ({ id, xmin }));
}

/** Those of the ids that still have a child in PostgreSQL, of whatever date. */
export async function withChildren(source: Source, schema: string, table: TableName, existing: ReadonlySet<TableName>, idType: string, ids: readonly string[]): Promise<Set<string>> {
  const parents = new Set<string>();
  for (const [child, column] of CHILDREN[table] ?? []) {
    if (!existing.has(child)) continue;
    const text = `SELECT DISTINCT ${column}::text FROM ${qualifiedName(schema, child)} WHERE ${column} = ANY ($1::${idType}[])`;
    for (const [id] of (await source.query(text, [ids])) as [string][]) parents.add(id);
  }
  return parents;
}
