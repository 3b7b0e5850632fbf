import { DifyEsError } from '../../core/errors.ts';
import { applicationName } from '../../pipeline/capture/pg-connection.ts';
import { countsAsStandby } from '../../pipeline/capture/sync-standby.ts';
import type { SlotState } from '../../pipeline/capture/slot.ts';
import { identitySteps } from './identity-plan.ts';
import { publicationPlan, unfitPublication } from './publication-plan.ts';
import type { ServerFacts } from './server-facts.ts';
import type { PublicationState, TableState } from './source-state.ts';

/** The oldest release with logical messages, by which cleanup-pg marks its deletes. */
export const OLDEST_VERSION = 140_000;

/** The application_name that synchronous_standby_names would have to count. */
const READER = applicationName('stream');

export interface SourceState {
  readonly server: ServerFacts;
  readonly tables: readonly TableState[];
  readonly publication: PublicationState | null;
  readonly slot: SlotState | null;
}

export interface SourceNames {
  readonly schema: string;
  readonly database: string;
  readonly publication: string;
  readonly slot: string;
}

/** Refuses before anything is touched, with every reason at once. */
export function requireFit(state: SourceState, names: SourceNames): void {
  if (state.server.walLevel !== 'logical') throw new DifyEsError('PG_WAL_LEVEL', `wal_level is ${state.server.walLevel}, and logical replication needs logical`);
  if (countsAsStandby(state.server.synchronousStandbyNames, READER)) throw new DifyEsError('PG_SYNC_STANDBY', `synchronous_standby_names is '${state.server.synchronousStandbyNames}', which counts the reader '${READER}'`);
  const unfit = [...unfitServer(state.server), ...unfitTables(state.tables, names), ...unfitPublication(names.publication, state.publication), ...unfitSlot(state.slot, names)];
  if (unfit.length > 0) throw new DifyEsError('PG_UNFIT', unfit.join('\n'));
  const rights = missingRights(state, names);
  if (rights.length > 0) throw new DifyEsError('PG_RIGHTS', rights.join('\n'));
}

export function unfitServer({ version, versionText, inRecovery, encoding }: ServerFacts): string[] {
  const lines: string[] = [];
  if (version < OLDEST_VERSION) lines.push(`PostgreSQL ${versionText} is too old: 14 is the oldest that works`);
  if (inRecovery) lines.push('this server is a standby: give the primary in DB_HOST');
  if (encoding !== 'UTF8') lines.push(`the database is encoded in ${encoding}: only UTF8 works`);
  return lines;
}

function unfitTables(tables: readonly TableState[], { schema, database }: Pick<SourceNames, 'schema' | 'database'>): string[] {
  if (tables.length === 0) return [`no table of Dify is in schema ${schema} of database ${database}: check DB_DATABASE and DB_SCHEMA`];
  return tables.flatMap(unfitTable);
}

export function unfitTable({ table, relkind, unlogged, hasPrimaryKey, missing, nullable }: TableState): string[] {
  if (relkind === 'p') return [`${table} is partitioned, which this program does not read`];
  if (relkind !== 'r') return [`${table} is no ordinary table but a ${({ v: 'view', m: 'materialized view', f: 'foreign table' })[relkind] ?? `relation of kind ${relkind}`}`];
  const lines: string[] = [];
  if (missing.length > 0) lines.push(`${table} has no column ${missing.join(', ')}: is it Dify's?`);
  if (nullable.length > 0) lines.push(`${table}.${nullable.join(', ')} may be NULL, and an identity index takes no such column`);
  if (!hasPrimaryKey) lines.push(`${table} has no primary key`);
  if (unlogged) lines.push(`${table} is unlogged: its changes never reach the log`);
  return lines;
}

export function unfitSlot(slot: SlotState | null, { slot: name, database }: Pick<SourceNames, 'slot' | 'database'>): string[] {
  if (!slot) return [];
  if (slot.database !== database) return [`slot ${name} belongs to ${slot.database === null ? 'a physical standby' : `database ${slot.database}`}: choose another CDC_SLOT`];
  return slot.plugin === 'pgoutput' ? [] : [`slot ${name} was made for ${slot.plugin}, not for pgoutput: choose another CDC_SLOT`];
}

/** The rights that the steps still to be done need; a role with few rights may run setup once a superuser did these. */
export function missingRights({ server, tables, publication, slot }: SourceState, { schema, publication: name }: SourceNames): string[] {
  const lines: string[] = [];
  for (const state of tables) {
    if (!state.selectable) lines.push(`${server.role} may not read ${state.table}`);
    if (identitySteps(state).length > 0 && !state.owned) lines.push(`${server.role} does not own ${state.table}, whose replica identity is to be set`);
  }
  const plan = publicationPlan(name, schema, tables.map(({ table }) => table), publication);
  if (plan.statements.length > 0) {
    if (!publication && !server.mayCreatePublication) lines.push(`${server.role} may not create a publication in this database`);
    if (publication && !publication.owned) lines.push(`${server.role} does not own the publication ${name}, which is to be changed`);
    for (const state of tables) if (plan.added.includes(state.table) && !state.owned) lines.push(`${server.role} does not own ${state.table}, which is to be published`);
  }
  if (!server.mayReplicate) lines.push(`${server.role} has no REPLICATION${slot ? '' : ', so it may not create the slot'}`);
  return [...new Set(lines)];
}
