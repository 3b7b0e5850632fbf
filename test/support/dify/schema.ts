import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';

/** Shapes that Dify's migrations left behind, newest first. Each was measured by running the migrations of that tag. */
export const RELEASES = ['main', '1.16.1', '1.11.4', '1.8.1', '1.4.3', '0.15.8'] as const;
export type Release = (typeof RELEASES)[number];

export const DIFY_TABLES = ['workflow_runs', 'workflow_app_logs', 'workflow_node_executions', 'workflow_node_execution_offload'] as const;
export type DifyTable = (typeof DIFY_TABLES)[number];

/** What each step into the past takes away from (or adds to) the shape of the release before it in RELEASES. */
const DELTAS: Readonly<Record<Release, string>> = {
  main: '',
  '1.16.1': 'ALTER TABLE public.workflow_node_executions DROP COLUMN agent_workspace_binding_id;',
  '1.11.4': `
    DROP INDEX public.workflow_node_execution_workflow_run_id_idx;
    CREATE INDEX workflow_node_execution_workflow_run_idx ON public.workflow_node_executions (tenant_id, app_id, workflow_id, triggered_from, workflow_run_id);
    DROP INDEX public.workflow_run_created_at_id_idx;`,
  '1.8.1': 'DROP TABLE public.workflow_node_execution_offload;',
  '1.4.3': `
    DROP INDEX public.workflow_app_log_workflow_run_id_idx;
    CREATE INDEX workflow_run_tenant_app_sequence_idx ON public.workflow_runs (tenant_id, app_id, sequence_number);`,
  '0.15.8': 'DROP INDEX public.workflow_node_executions_tenant_id_idx;',
};

const at = (release: Release): number => RELEASES.indexOf(release);

/**
 * The statements that make the four tables in the shape of a release, to be run as one simple query.
 *
 * `sequence_number` of 1.4.3 and older stands where real databases of that age have it, as the fourth column: a reader
 * that matches columns by position breaks on it.
 */
function difySchemaSql(release: Release = 'main'): string {
  let sql = readFileSync(join(import.meta.dirname, 'schema.sql'), 'utf8');
  if (at(release) >= at('1.4.3')) {
    const head = /(CREATE TABLE public\.workflow_runs \([^;]*?app_id +uuid NOT NULL,)/;
    if (!head.test(sql)) throw new Error('schema.sql has no workflow_runs with an app_id');
    sql = sql.replace(head, '$1\n    sequence_number  integer NOT NULL,');
  }
  return [sql, ...RELEASES.slice(1, at(release) + 1).map((older) => DELTAS[older])].join('\n');
}

/** Creates the four tables in schema public. Fails when one of them is there already: see `dropDifySchema`. */
export async function createDifySchema(client: pg.ClientBase, options: { release?: Release } = {}): Promise<void> {
  await client.query(difySchemaSql(options.release));
}

/** Drops the four tables where they exist; the two uuid functions stay. */
export async function dropDifySchema(client: pg.ClientBase): Promise<void> {
  await client.query(`DROP TABLE IF EXISTS ${DIFY_TABLES.map((table) => `public.${table}`).join(', ')}`);
}

/** The columns of each of the four tables that exist here, in their physical order. Works with any type parsers. */
export async function columnsOf(client: pg.ClientBase): Promise<Map<DifyTable, string[]>> {
  const { rows } = await client.query<{ relname: DifyTable; attname: string }>(
    `SELECT c.relname, a.attname
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
      WHERE n.nspname = 'public' AND c.relname = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
      ORDER BY c.relname, a.attnum`,
    [DIFY_TABLES],
  );
  const columns = new Map<DifyTable, string[]>();
  for (const { relname, attname } of rows) columns.set(relname, [...(columns.get(relname) ?? []), attname]);
  return columns;
}
