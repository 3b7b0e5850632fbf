import { CONNECTORS } from '../../../connector/registry.ts';
import { TABLES, type TableName } from '../../../core/contracts.ts';
import { query, type Queryable } from '../../../pipeline/capture/pg-connection.ts';
import { unfitTable } from '../../setup/fitness.ts';
import { isSufficient, stopsDify } from '../../setup/identity-plan.ts';
import { describeIdentity } from '../../setup/identity.ts';
import { IDENTITY_COLUMNS } from '../../setup/names.ts';
import type { TableState } from '../../setup/source-state.ts';
import { fail, ok, warn, type Finding } from '../finding.ts';

/** Column name → type as the server prints it. */
export type Columns = Readonly<Record<string, string>>;

/** Whose text the keys are made of; another type prints another text, and every row of it would be a dead letter. */
const KEY_TYPES: Columns = { id: 'uuid', tenant_id: 'uuid', created_at: 'timestamp without time zone' };

export async function readColumns(db: Queryable, schema: string): Promise<ReadonlyMap<TableName, Columns>> {
  const rows = await query<{ table: TableName; columns: Record<string, string> }>(
    db,
    `SELECT c.relname AS table, jsonb_object_agg(a.attname, format_type(a.atttypid, NULL)) AS columns
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
      WHERE n.nspname = $1 AND c.relname = ANY ($2) AND a.attnum > 0 AND NOT a.attisdropped GROUP BY c.relname`,
    [schema, TABLES],
  );
  return new Map(rows.map(({ table, columns }) => [table, columns]));
}

/** `isSetUp`: some mark of setup is there, so what is missing is missed. */
export function tableFindings(tables: readonly TableState[], columns: ReadonlyMap<TableName, Columns>, schema: string, isSetUp: boolean): Finding[] {
  if (tables.length === 0) return [fail('tables', `no table of Dify is in the schema ${schema}`, 'Check DB_DATABASE and DB_SCHEMA.')];
  const absent = TABLES.filter((name) => !tables.some(({ table }) => table === name));
  return [
    ok('tables', `${tables.length} of ${TABLES.length}${absent.length > 0 ? `; this release of Dify has no ${absent.join(', ')}` : ''}`),
    ...tables.flatMap((state) => [...shapeFindings(state, columns.get(state.table) ?? {}), identityFinding(state, isSetUp)]),
  ];
}

function shapeFindings(state: TableState, columns: Columns): Finding[] {
  const unfit = unfitTable(state);
  if (unfit.length > 0) return unfit.map((line) => fail(`table ${state.table}`, line, 'This program reads ordinary, logged tables with a primary key, as Dify makes them.'));
  const wrong = IDENTITY_COLUMNS.filter((column) => columns[column] !== KEY_TYPES[column]);
  if (wrong.length > 0) return [fail(`table ${state.table}`, wrong.map((column) => `${column} is ${columns[column]} instead of ${KEY_TYPES[column]}`).join(', '), 'Is this a table of Dify? Its rows would have no index.')];
  const known = Object.keys(CONNECTORS[state.table].columns);
  const missing = known.filter((column) => !(column in columns));
  const unknown = Object.keys(columns).filter((column) => !known.includes(column));
  const facts = [`${Object.keys(columns).length} columns`, missing.length > 0 ? `without ${missing.join(', ')}` : '', unknown.length > 0 ? `${unknown.join(', ')} carried as text and not indexed` : ''];
  return [ok(`table ${state.table}`, facts.filter(Boolean).join('; '))];
}

function identityFinding(state: TableState, isSetUp: boolean): Finding {
  const subject = `identity ${state.table}`;
  if (stopsDify(state)) return fail(subject, 'its index is missing or unusable: every UPDATE and DELETE of Dify on a published table fails', 'Run dify-es setup at once.');
  if (isSufficient(state)) return ok(subject, describeIdentity(state));
  const message = `${describeIdentity(state)}: a deleted row would not find its document`;
  return (isSetUp ? fail : warn)(subject, message, 'Run dify-es setup.');
}
