import { DifyEsError } from '../../core/errors.ts';
import { query, type Queryable } from './pg-connection.ts';

/**
 * The standby names of a synchronous_standby_names setting: `a, "b"`, `2 (a, b)`, `FIRST 2 (a, b)`, `ANY 2 (a, b)`.
 * https://www.postgresql.org/docs/18/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES
 */
export function standbyNames(setting: string): string[] {
  const list = /^\s*(?:(?:FIRST|ANY)\s+)?\d+\s*\(([^]*)\)\s*$/i.exec(setting)?.[1] ?? setting;
  return [...list.matchAll(/"((?:[^"]|"")*)"|([^\s,"]+)/g)].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain!);
}

/**
 * True when a walsender of this application_name is, or may become, a synchronous standby. Every name of the list
 * counts, also one of low priority: it moves up when those before it leave. Compared without case, as the server does.
 */
export function countsAsStandby(setting: string, applicationName: string): boolean {
  return standbyNames(setting).some((name) => name === '*' || name.toLowerCase() === applicationName.toLowerCase());
}

/**
 * Throws PG_SYNC_STANDBY when the server would count this reader as a synchronous standby: a COMMIT of the application
 * would wait for our confirmation, and we wait until that COMMIT is visible, so both would wait for ever.
 */
export async function refuseSyncStandby(db: Queryable, applicationName: string): Promise<void> {
  const [row] = await query<{ setting: string }>(db, `SELECT current_setting('synchronous_standby_names') AS setting`);
  if (row && countsAsStandby(row.setting, applicationName)) {
    throw new DifyEsError('PG_SYNC_STANDBY', `synchronous_standby_names is '${row.setting}', which counts the reader '${applicationName}'`);
  }
}
