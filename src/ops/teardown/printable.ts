import type { Config } from '../../config/config.ts';
import { lookOrNot, type Printable } from '../setup/printable.ts';
import { sourceNames } from '../setup/setup.ts';
import { teardownSql } from './print-sql.ts';
import { readRemains } from './source.ts';

/** The SQL of teardown for what is still there; all of it when the server cannot be looked at. */
export async function printableTeardown(config: Config): Promise<Printable> {
  const names = sourceNames(config);
  const { result, note } = await lookOrNot(config, async (db) => teardownSql(await readRemains(db, names), names));
  return { sql: result ?? teardownSql(null, names), note };
}
