import type { Config } from '../../../config/config.ts';
import { DifyEsError } from '../../../core/errors.ts';
import { connect, type PgTarget } from '../../../pipeline/capture/pg-connection.ts';
import { pgTarget } from '../../../run/connections.ts';
import { identifySystem } from '../../setup/observe.ts';
import { sourceNames } from '../../setup/setup.ts';
import { readSource } from '../../setup/source.ts';
import { readRetainedWal } from '../../watch/source-facts.ts';
import { fail, ok, type Finding } from '../finding.ts';
import { activityFindings, readLongTransactions } from './activity.ts';
import { publicationFindings } from './publication.ts';
import { rightsFindings } from './rights.ts';
import { headroomFindings, serverFindings } from './server.ts';
import { slotFindings } from './slot.ts';
import { readColumns, tableFindings } from './tables.ts';

const ROLE = 'check';
const STATEMENT_MS = 10_000;

/** Reads only. Throws when the server cannot be reached, refuses the credentials, or does not let itself be read. */
export async function checkPostgres(config: Config): Promise<Finding[]> {
  const target = pgTarget(config);
  const names = sourceNames(config);
  const { postgres } = config;
  const db = await connect(target, { role: ROLE, statementTimeoutMs: STATEMENT_MS });
  try {
    const state = await readSource(db, names);
    const { server, tables, publication, slot } = state;
    const isSetUp = publication !== null || slot !== null;
    const wal = slot === null ? null : await readRetainedWal(db, names.slot);
    return [
      ...serverFindings(server),
      ...headroomFindings(server, { slot: slot !== null, sender: slot?.activePid != null }),
      ...rightsFindings(state, names),
      await replicationFinding(target),
      ...tableFindings(tables, await readColumns(db, names.schema), names.schema, isSetUp),
      ...publicationFindings(names.publication, publication, tables.map(({ table }) => table), isSetUp),
      ...slotFindings({ slot, retainedBytes: wal?.retainedBytes ?? null, budgetBytes: postgres.walBudget }, server, names, isSetUp),
      ...activityFindings(await readLongTransactions(db), server),
    ];
  } finally {
    await db.end();
  }
}

/** A role may have REPLICATION and still not get in: pg_hba.conf, or a pooler in between. */
async function replicationFinding(target: PgTarget): Promise<Finding> {
  const subject = 'replication connection';
  try {
    const { systemid, timeline } = await identifySystem(target, ROLE);
    return ok(subject, `system ${systemid}, timeline ${timeline}`);
  } catch (error) {
    if (!(error instanceof DifyEsError)) throw error;
    return fail(subject, error.message, 'The role needs REPLICATION and a line in pg_hba.conf; connect to PostgreSQL itself and not to a pooler.');
  }
}
