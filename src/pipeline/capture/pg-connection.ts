import pg from 'pg';
import { DifyEsError, type ErrorCode } from '../../core/errors.ts';
import { isTlsFault } from '../../core/tls-fault.ts';

/** Where PostgreSQL is. No connection string: its parameters would override what is pinned below. */
export interface PgTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly ssl?: pg.ClientConfig['ssl'];
}

export interface SessionOptions {
  /** What the connection is for, one word or two: `dify-es stream` in pg_stat_activity. */
  readonly role: string;
  /** 0: no limit, as a replication connection and an index build need it. */
  readonly statementTimeoutMs?: number;
  readonly connectTimeoutMs?: number;
  /** Further settings of the session, by name. */
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * The key bytes and every cell depend on these: backfill and stream must print one value alike, whatever the server,
 * the database or the role have set. timestamps as ISO in UTC, floats in the shortest form that reads back the same.
 */
const PINNED = {
  DateStyle: 'ISO',
  TimeZone: 'UTC',
  IntervalStyle: 'postgres',
  extra_float_digits: '1',
  bytea_output: 'hex',
  lc_monetary: 'C',
  default_transaction_isolation: 'read committed',
  idle_in_transaction_session_timeout: '0',
  lock_timeout: '0',
  // Compiling a query of a millisecond takes a hundred.
  jit: 'off',
} as const;

export function applicationName(role: string): string {
  return `dify-es ${role}`;
}

/**
 * The configuration of an ordinary connection, and of a replication connection where the library adds that. Settings
 * go into the startup packet, so no statement can run before them. node-postgres itself asks for client_encoding UTF8.
 */
export function sessionConfig(target: PgTarget, options: SessionOptions): pg.ClientConfig {
  const settings = { ...PINNED, statement_timeout: String(options.statementTimeoutMs ?? 0), ...options.settings };
  return {
    ...target,
    application_name: applicationName(options.role),
    options: Object.entries(settings).map(([name, value]) => `-c ${name}=${value.replaceAll(/([\\ ])/g, '\\$1')}`).join(' '),
    connectionTimeoutMillis: options.connectTimeoutMs ?? 10_000,
    keepAlive: true,
  };
}

/** One ordinary connection, open. Errors are DifyEsErrors. The caller ends it. */
export async function connect(target: PgTarget, options: SessionOptions): Promise<pg.Client> {
  const client = new pg.Client(sessionConfig(target, options));
  // Without a listener the loss of an idle connection would end the process; the next query notices it.
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (error) {
    throw toPgError(error, 'connect');
  }
  return client;
}

/** Ordinary connections that come back by themselves after a loss. */
export function openPool(target: PgTarget, options: SessionOptions & { readonly max: number }): pg.Pool {
  const pool = new pg.Pool({ ...sessionConfig(target, options), max: options.max, idleTimeoutMillis: 60_000 });
  pool.on('error', () => undefined);
  return pool;
}

/** A pool or a client. */
export interface Queryable {
  query(query: pg.QueryConfig): Promise<pg.QueryResult>;
  query<R extends unknown[]>(query: pg.QueryArrayConfig): Promise<pg.QueryArrayResult<R>>;
}

/** Rows of named columns, as JS values. Errors are DifyEsErrors. */
export async function query<Row>(db: Queryable, text: string, values: unknown[] = [], doing: PgActivity = 'query'): Promise<Row[]> {
  try {
    return (await db.query({ text, values })).rows as Row[];
  } catch (error) {
    throw toPgError(error, doing);
  }
}

/** What was being done: the same SQLSTATE means another thing while a slot is started than in an ordinary query. */
export type PgActivity = 'connect' | 'query' | 'start-replication' | 'replicate';

/** https://www.postgresql.org/docs/18/errcodes-appendix.html */
const BY_SQLSTATE: Readonly<Record<string, ErrorCode>> = {
  '28P01': 'PG_AUTH', '28000': 'PG_AUTH', // invalid_password, invalid_authorization_specification
  '3D000': 'CONFIG_INVALID', // invalid_catalog_name: no such database
  '42501': 'PG_RIGHTS', // insufficient_privilege
  '55006': 'PG_SLOT_BUSY', // object_in_use
  '57014': 'PG_UNREACHABLE', // query_canceled: it did not answer within statement_timeout
};
const BY_SQLSTATE_OF_REPLICATION: Readonly<Record<string, ErrorCode>> = {
  '55000': 'PG_SLOT_LOST', // object_not_in_prerequisite_state: the slot was invalidated
  '58P01': 'PG_SLOT_LOST', // undefined_file: the WAL segment has been removed
};
/** Connection exceptions, insufficient resources, operator intervention: shutdown, crash, starting up. */
const UNREACHABLE_CLASSES = ['08', '53', '57'];

/** Matched by SQLSTATE or by the code of the socket, never by the text. An error that already has a code stays as it is. */
export function toPgError(error: unknown, doing: PgActivity): DifyEsError {
  if (error instanceof DifyEsError) return error;
  const { code, message } = error as { code?: unknown; message?: unknown };
  const sqlstate = typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && error instanceof pg.DatabaseError ? code : undefined;
  return new DifyEsError(codeOf(error, sqlstate, doing), describe(sqlstate, code, message), { cause: error });
}

/** For what was thrown past `query`: an answer of the server gets its code, anything else stays as it is. */
export function withPgCode(error: unknown): unknown {
  return error instanceof pg.DatabaseError ? toPgError(error, 'query') : error;
}

function codeOf(error: unknown, sqlstate: string | undefined, doing: PgActivity): ErrorCode {
  if (sqlstate === undefined) return isFaultOfProgram(error) ? 'INTERNAL' : isTlsFault((error as { code?: unknown }).code) ? 'PG_TLS' : 'PG_UNREACHABLE';
  if (doing === 'start-replication' && sqlstate === '42704') return 'PG_SLOT_MISSING';
  if (doing === 'replicate' && sqlstate === '42704') return 'PG_PUBLICATION_MISSING';
  const known = (doing.includes('replicat') ? BY_SQLSTATE_OF_REPLICATION[sqlstate] : undefined) ?? BY_SQLSTATE[sqlstate];
  if (known) return known;
  return UNREACHABLE_CLASSES.includes(sqlstate.slice(0, 2)) ? 'PG_UNREACHABLE' : 'INTERNAL';
}

/** Sockets, TLS and time limits of the client carry no SQLSTATE; what JavaScript itself throws is our own mistake. */
function isFaultOfProgram(error: unknown): boolean {
  return !(error instanceof Error) || error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
}

/** Data exceptions and constraint violations quote the value in their text. */
function describe(sqlstate: string | undefined, code: unknown, message: unknown): string {
  const text = String(message ?? code ?? 'no answer').split('\n', 1)[0] || String(code ?? 'no answer');
  if (sqlstate === undefined) return `PostgreSQL: ${text}`;
  return sqlstate.startsWith('22') || sqlstate.startsWith('23') ? `PostgreSQL: SQLSTATE ${sqlstate}` : `PostgreSQL: ${text} (SQLSTATE ${sqlstate})`;
}
