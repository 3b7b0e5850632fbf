import pg from 'pg';
import type { TableName } from '../../core/contracts.ts';
import { IDENTITY_COLUMNS, PUBLICATION_COMMENT, identityComment, identityIndexName, type FormerIdentity } from './names.ts';

/*
 * Every statement that changes something in PostgreSQL, as text. setup and teardown run these texts, and --print-sql
 * prints the same ones, so what a superuser runs by hand is what the program would have run.
 */

const { escapeIdentifier: name, escapeLiteral: literal } = pg;

/** How long a statement that shuts writers out may stand in the queue for its lock; as long do the writers behind it wait. */
export const LOCK_TIMEOUT_MS = 700;
const PUBLISH = 'insert, update, delete, truncate';

/**
 * Before what may take hours and shuts nobody out: a build that a timeout cancels leaves an invalid index behind.
 * transaction_timeout came with PostgreSQL 17 and counts a CONCURRENTLY build too.
 */
export const WITHOUT_TIMEOUTS = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout')";

function tableRef(schema: string, table: string): string {
  return `${name(schema)}.${name(table)}`;
}

function indexRef(schema: string, table: TableName): string {
  return `${name(schema)}.${name(identityIndexName(table))}`;
}

/**
 * Not IF NOT EXISTS: it would skip over the invalid index that a cancelled build leaves, PostgreSQL accepts that one
 * as replica identity, and then every UPDATE and DELETE of Dify fails.
 */
export function createIdentityIndex(schema: string, table: TableName): string {
  return `CREATE UNIQUE INDEX CONCURRENTLY ${name(identityIndexName(table))} ON ${tableRef(schema, table)} (${IDENTITY_COLUMNS.map(name).join(', ')})`;
}

export function dropIdentityIndex(schema: string, table: TableName): string {
  return `DROP INDEX CONCURRENTLY IF EXISTS ${indexRef(schema, table)}`;
}

export function commentIdentityIndex(schema: string, table: TableName, former: FormerIdentity): string {
  return `COMMENT ON INDEX ${indexRef(schema, table)} IS ${literal(identityComment(former))}`;
}

export function ownIdentity(table: TableName): FormerIdentity {
  return { kind: 'index', name: identityIndexName(table) };
}

/**
 * Sets the replica identity in one transaction and one round trip; it needs ACCESS EXCLUSIVE for a moment.
 *
 * The weaker lock comes first: waiting for it shuts no reader or writer out, and it ends an autovacuum, which a wait
 * of less than deadlock_timeout (1 s) never does. One round trip, because a program that is stopped between ALTER and
 * COMMIT would hold Dify; and no wait for a synchronous standby, because locks are held while a commit waits for it.
 */
export function setReplicaIdentity(schema: string, table: TableName, identity: FormerIdentity): string[] {
  const to = identity.kind === 'index' ? `USING INDEX ${name(identity.name)}` : identity.kind.toUpperCase();
  return [
    'BEGIN',
    'SET LOCAL synchronous_commit = local',
    "SET LOCAL lock_timeout = '10s'",
    `LOCK TABLE ${tableRef(schema, table)} IN SHARE UPDATE EXCLUSIVE MODE`,
    `SET LOCAL lock_timeout = '${LOCK_TIMEOUT_MS}ms'`,
    `ALTER TABLE ${tableRef(schema, table)} REPLICA IDENTITY ${to}`,
    'COMMIT',
  ];
}

export function createPublication(publication: string, schema: string, tables: readonly TableName[]): string {
  return `CREATE PUBLICATION ${name(publication)} FOR TABLE ${tables.map((table) => tableRef(schema, table)).join(', ')} WITH (publish = '${PUBLISH}')`;
}

export function commentPublication(publication: string): string {
  return `COMMENT ON PUBLICATION ${name(publication)} IS ${literal(PUBLICATION_COMMENT)}`;
}

export function publishEverything(publication: string): string {
  return `ALTER PUBLICATION ${name(publication)} SET (publish = '${PUBLISH}')`;
}

export function addToPublication(publication: string, schema: string, tables: readonly TableName[]): string {
  return `ALTER PUBLICATION ${name(publication)} ADD TABLE ${tables.map((table) => tableRef(schema, table)).join(', ')}`;
}

export function dropPublication(publication: string): string {
  return `DROP PUBLICATION IF EXISTS ${name(publication)}`;
}

export function dropSlot(slot: string): string {
  return `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = ${literal(slot)}`;
}


export interface RoleNeeds {
  readonly role: string;
  readonly database: string;
  readonly schema: string;
  readonly tables: readonly TableName[];
}

/** What the program's role needs, beyond the statements above, for everything but cleanup-pg. */
export function grants({ role, database, schema, tables }: RoleNeeds): string[] {
  return [
    `ALTER ROLE ${name(role)} LOGIN REPLICATION`,
    `GRANT CONNECT ON DATABASE ${name(database)} TO ${name(role)}`,
    `GRANT USAGE ON SCHEMA ${name(schema)} TO ${name(role)}`,
    `GRANT SELECT ON TABLE ${tables.map((table) => tableRef(schema, table)).join(', ')} TO ${name(role)}`,
    `GRANT pg_read_all_stats TO ${name(role)}`,
  ];
}

export function createRole(role: string): string {
  return `CREATE ROLE ${name(role)}`;
}

/** Needed by cleanup-pg alone. */
export function cleanupGrant({ role, schema, tables }: RoleNeeds): string {
  return `GRANT DELETE ON TABLE ${tables.map((table) => tableRef(schema, table)).join(', ')} TO ${name(role)}`;
}
