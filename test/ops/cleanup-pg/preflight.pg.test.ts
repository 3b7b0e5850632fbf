import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { requireAlone, requireDeleteRights } from '../../../src/ops/cleanup-pg/preflight.ts';
import { pinned } from '../../pipeline/backfill/harness.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';
import { namesOf, runSetup, runTeardown } from '../support/source.ts';

const here = isolate(import.meta.filename);
const ROLE = `${here.slot}_reader`;
const second = { publication: `${here.publication}_b`, slot: `${here.slot}_b` };
let db: pg.Client;

beforeAll(async () => {
  db = await pinned(here)();
  await createDifySchema(db);
});
afterAll(async () => {
  await db?.query(`RESET ROLE; DROP OWNED BY ${ROLE}; DROP ROLE ${ROLE}`).catch(() => undefined);
  await db?.end();
});

test('a clean-up is refused while the publication of another installation has one of the tables, and no other publication matters', async () => {
  await runSetup(here);
  await db.query('CREATE PUBLICATION of_somebody FOR ALL TABLES');
  await requireAlone(db, namesOf(here));
  await runSetup(here, { names: second });
  await expect(requireAlone(db, namesOf(here))).rejects.toMatchObject({ code: 'CLEANUP_REFUSED', message: expect.stringContaining(`"${second.publication}"`) });
  await expect(requireAlone(db, namesOf(here, second))).rejects.toThrow(`"${here.publication}"`);
  await runTeardown(here, { names: second });
  await requireAlone(db, namesOf(here));
  await db.query('DROP PUBLICATION of_somebody');
  await runTeardown(here);
});

test('a role without the grant is told of every table that it may not delete from', async () => {
  await db.query(`CREATE ROLE ${ROLE}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${ROLE}; GRANT DELETE ON workflow_runs TO ${ROLE}; SET ROLE ${ROLE}`);
  await expect(requireDeleteRights(db, 'public')).rejects.toMatchObject({ code: 'PG_RIGHTS', message: expect.stringMatching(/may not delete from workflow_app_logs, workflow_node_execution_offload, workflow_node_executions:/) });
  await db.query(`RESET ROLE; GRANT DELETE ON ALL TABLES IN SCHEMA public TO ${ROLE}; SET ROLE ${ROLE}`);
  await requireDeleteRights(db, 'public');
});
