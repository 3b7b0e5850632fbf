import { TABLES, type TableName } from '../../core/contracts.ts';
import type { SourceNames, SourceState } from './fitness.ts';
import { identitySteps, type IdentityStep } from './identity-plan.ts';
import { publicationPlan } from './publication-plan.ts';
import {
  WITHOUT_TIMEOUTS, cleanupGrant, commentIdentityIndex, createIdentityIndex, createRole, dropIdentityIndex, grants, ownIdentity, setReplicaIdentity,
} from './sql.ts';

export interface PrintOptions {
  readonly names: SourceNames;
  /** The role that the program will use. */
  readonly role: string;
  readonly roleExists: boolean;
}

const FRESH_STEPS: readonly IdentityStep[] = [{ do: 'create-index' }, { do: 'comment', former: { kind: 'default' } }, { do: 'set-identity' }];

/**
 * What a superuser, or the owner of Dify's tables, can run instead of `setup`: the statements still to be done, or those
 * for an untouched database when `state` is null because nobody could look. The slot is not among them: the program
 * makes it itself with REPLICATION, as late as it can, since the server keeps WAL for it from then on.
 */
export function setupSql(state: Pick<SourceState, 'server' | 'tables' | 'publication'> | null, { names, role, roleExists }: PrintOptions): string {
  const tables: readonly TableName[] = state ? state.tables.map(({ table }) => table) : TABLES;
  const needs = { role, database: names.database, schema: names.schema, tables };
  const blocks = [
    comment(
      `dify-es setup for database ${names.database}, schema ${names.schema}. Run it with psql -v ON_ERROR_STOP=1 as a superuser, while Dify runs:`,
      'nothing here keeps a reader or writer waiting for more than a second. Not inside a transaction.',
      state ? 'It holds what is still to be done.' : 'Nobody could look at the server, so it holds everything; leave out a table that this Dify does not have.',
    ),
    settings(state),
    comment('The role of the program; give it a password with \\password, or a line in pg_hba.conf.'),
    ...(roleExists ? [] : [statement(createRole(role))]),
    ...grants(needs).map(statement),
    comment('Only for cleanup-pg:', `${cleanupGrant(needs)};`),
    ...(state ? state.tables : tables.map((table) => ({ table, steps: FRESH_STEPS }))).flatMap((item) => {
      const steps = 'steps' in item ? item.steps : identitySteps(item);
      return steps.length === 0 ? [] : [comment(`${item.table}: by which a deleted row finds its document. If the lock cannot be had, run the part from BEGIN to COMMIT again.`), ...steps.map((step) => stepSql(names.schema, item.table, step))];
    }),
    ...publicationPlan(names.publication, names.schema, tables, state?.publication ?? null).statements.map(statement),
    comment('Then run dify-es setup with the role above: it finds this done, and makes the slot, the topics and the templates.'),
  ];
  return `${blocks.filter(Boolean).join('\n')}\n`;
}

function settings(state: Pick<SourceState, 'server'> | null): string {
  const lines: string[] = [];
  if (!state) lines.push(comment('wal_level has to be logical, which takes one restart:', 'ALTER SYSTEM SET wal_level = logical;'));
  else if (state.server.walLevel !== 'logical') lines.push(comment('Takes effect after one restart of PostgreSQL.'), statement('ALTER SYSTEM SET wal_level = logical'));
  if (!state || state.server.maxSlotWalKeepBytes < 0) {
    lines.push(comment('While the reader is away the server keeps WAL for it. A bound saves the disk; past it the slot is lost and a full migrate is due:', "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();"));
  }
  return lines.join('\n');
}

function stepSql(schema: string, table: TableName, step: IdentityStep): string {
  switch (step.do) {
    case 'rescue':
      return setReplicaIdentity(schema, table, step.to).map(statement).join('\n');
    case 'drop-index':
      return [WITHOUT_TIMEOUTS, dropIdentityIndex(schema, table)].map(statement).join('\n');
    case 'create-index':
      return [WITHOUT_TIMEOUTS, createIdentityIndex(schema, table)].map(statement).join('\n');
    case 'comment':
      return statement(commentIdentityIndex(schema, table, step.former));
    case 'set-identity':
      return setReplicaIdentity(schema, table, ownIdentity(table)).map(statement).join('\n');
    default:
      return step satisfies never;
  }
}

export function statement(sql: string): string {
  return `${sql};`;
}

/** Comment lines, with an empty line before them. */
export function comment(...lines: string[]): string {
  return ['', ...lines.map((line) => `-- ${line}`)].join('\n');
}
