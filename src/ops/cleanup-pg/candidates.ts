import type { TableName } from '../../core/contracts.ts';
import { qualifiedName, type TableSource } from '../../pipeline/backfill/table-source.ts';
import type { Source } from '../validate/source.ts';

/** A row as it was when it was chosen: every later writer gives it another xmin. */
export interface Candidate {
  readonly id: string;
  readonly xmin: string;
}

export interface ChosenRow extends Candidate {
  /** Dify may still write it, or what it belongs to. */
  readonly unfinished: boolean;
}

/** Children before parents: whoever still reads PostgreSQL never meets a node without its run. */
export const CHILDREN_FIRST: readonly TableName[] = ['workflow_node_execution_offload', 'workflow_node_executions', 'workflow_app_logs', 'workflow_runs'];

/** Where the children of a table's rows are, by the column that names the parent. */
const CHILDREN: Readonly<Partial<Record<TableName, readonly (readonly [table: TableName, column: string])[]>>> = {
  workflow_node_executions: [['workflow_node_execution_offload', 'node_execution_id']],
  workflow_runs: [['workflow_node_executions', 'workflow_run_id'], ['workflow_app_logs', 'workflow_run_id']],
};

/**
 * What Dify writes no more, of runs and of nodes. The column is an open set: what is not known here is taken for
 * unfinished, since Dify updates such a row by its id and would find nothing.
 */
const FINISHED = ['succeeded', 'failed', 'stopped', 'partial-succeeded', 'exception', 'retry'];

/**
 * SQL: whether a row of the table, called `t`, is unfinished or belongs to something that is. Children go before their
 * parents, so a child must be asked about the run it belongs to: its nodes and logs are what a paused run resumes with.
 */
export function unfinishedSql(schema: string, table: TableName): string {
  const open = (row: string): string => `${row}.status <> ALL ('{${FINISHED.join(',')}}'::text[])`;
  const ofRun = (column: string): string => `EXISTS (SELECT FROM ${qualifiedName(schema, 'workflow_runs')} r WHERE r.id = ${column} AND ${open('r')})`;
  switch (table) {
    case 'workflow_runs':
      return open('t');
    case 'workflow_app_logs':
      return ofRun('t.workflow_run_id');
    case 'workflow_node_executions':
      return `(${open('t')} OR ${ofRun('t.workflow_run_id')})`;
    case 'workflow_node_execution_offload':
      return `EXISTS (SELECT FROM ${qualifiedName(schema, 'workflow_node_executions')} n WHERE n.id = t.node_execution_id AND (${open('n')} OR ${ofRun('n.workflow_run_id')}))`;
    default:
      return table satisfies never;
  }
}

export interface Scope {
  readonly tenantId: string;
  /** Exclusive; `2025-10-31 00:00:00`, UTC. */
  readonly before: string;
}

/** The next rows of the tenant before the date, by id. The identity index of `setup` begins with id and holds both columns. */
export async function nextCandidates(source: Source, schema: string, table: TableSource, { tenantId, before }: Scope, after: string | null, limit: number): Promise<ChosenRow[]> {
  const text = `SELECT id::text, xmin::text, ${unfinishedSql(schema, table.table)} FROM ONLY ${table.name} t
    WHERE tenant_id = $1::${table.idType} AND created_at < $2::timestamp AND ($3::text IS NULL OR id > $3::${table.idType}) ORDER BY id LIMIT ${limit}`;
  const rows = await source.query(text, [tenantId, before, after]);
  return (rows as [string, string, boolean][]).map(([id, xmin, unfinished]) => ({ id, xmin, unfinished }));
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
