import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { Pipeline } from '../../support/pipeline.ts';
import type { Program } from '../../support/program.ts';
import { isolate } from '../../support/servers.ts';
import { open, proveDifyWrites, sourceShape } from '../support/source.ts';

/*
 * The way of an operator whose database belongs to somebody else: print-sql, run by hand as a superuser, and everything
 * else as a role that owns nothing. One story; each test goes on where the one before ended.
 */
const here = isolate(import.meta.filename);
const ROLE = `${here.slot}_role`;
const least = new Pipeline({ ...here.env, DB_USERNAME: ROLE, DB_PASSWORD: 'least', KAFKA_PARTITIONS: '2', WAL_BUDGET: '1GB' });
const superuser = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
let db: pg.Client;
const running: Program[] = [];

beforeAll(async () => {
  db = await open(here.postgresUrl, 'somebody with all rights');
  await createDifySchema(db);
  await loadDataset(db, { runs: 30, nodesPerRun: 2, tenants: 2, months: ['2026-10'], seed: 5 });
});
afterAll(async () => {
  await Promise.all([least.killAll(), superuser.killAll()]);
  await db.query(`DROP OWNED BY ${ROLE}; DROP ROLE ${ROLE}`).catch(() => undefined);
  await db.end();
});

/** As psql runs a file: without the remarks, one statement after another, in one session. */
async function runByHand(sql: string): Promise<number> {
  const statements = sql.replaceAll(/^--.*$/gm, '').split(/;\s*$/m).map((text) => text.trim()).filter(Boolean);
  for (const statement of statements) await db.query(statement);
  return statements.length;
}

describe('a role with the least rights', () => {
  test('before the role exists print-sql holds everything, with the role to be made', async () => {
    const sql = await least.verb(['setup', '--print-sql']);
    expect(sql).toContain(`CREATE ROLE "${ROLE}"`);
    expect(sql.match(/CREATE UNIQUE INDEX CONCURRENTLY/g)).toHaveLength(4);
    expect(sql).not.toContain('least\'');
    await runByHand(sql);
    await db.query(`ALTER ROLE ${ROLE} PASSWORD 'least'`);
    await proveDifyWrites(db);
    expect(await sourceShape(db, here)).toMatchObject({ slots: [], published: expect.arrayContaining(['workflow_runs']) as unknown });
  });

  test('run again by a superuser it holds only what is left, and can be run once more', async () => {
    const sql = await superuser.verb(['setup', '--print-sql', '--role', ROLE]);
    expect(sql).not.toMatch(/CREATE|LOCK TABLE/);
    await runByHand(sql);
  });

  test('setup by the role finds it done and does the rest', async () => {
    const { steps } = JSON.parse(await least.verb(['setup', '--json'])) as { steps: { step: string; did: string }[] };
    expect(Object.fromEntries(steps.map(({ step, did }) => [step, did]))).toEqual({ identity: 'already', publication: 'already', slot: 'done', topics: 'done', records: 'done', templates: 'done' });
  });

  test('check by the role finds nothing in the way', async () => {
    const { servers } = JSON.parse(await least.verb(['check', '--json'])) as { servers: { findings: { level: string; subject: string; message: string }[] }[] };
    const findings = servers.flatMap((server) => server.findings);
    expect(findings.filter(({ level }) => level === 'fail')).toEqual([]);
    expect(findings).toContainEqual(expect.objectContaining({ subject: 'rights', message: expect.stringContaining('owns nothing') as unknown }));
  });

  test('the whole path runs with it', async () => {
    // stopped later and not killed: a member that dies stays in the group until its session has timed out, and holds teardown up
    running.push(await least.start('stream'), await least.start('sink'));
    await least.verb(['migrate']);
    await db.query(`UPDATE workflow_runs SET status = 'stopped'; DELETE FROM workflow_app_logs WHERE id IN (SELECT id FROM workflow_app_logs LIMIT 3)`);
    expect(await least.equal()).toBeGreaterThan(80);
  });

  test('cleanup-pg is refused in one line without the grant that print-sql prints apart, and runs with it', async () => {
    const { rows: [of] } = await db.query<{ tenant: string; runs: number }>('SELECT tenant_id::text AS tenant, count(*)::int AS runs FROM workflow_runs GROUP BY 1 ORDER BY 1 LIMIT 1');
    const cleanup = ['cleanup-pg', '--tenant-id', of!.tenant, '--before-date', '2026-11-01', '--pause', '0'];
    const program = least.spawn(cleanup);
    expect(await program.ended).toMatchObject({ code: 2 });
    expect(program.stderr.filter((line) => line.includes('may not delete'))).toEqual([expect.stringMatching(/workflow_app_logs, .*workflow_runs.*grant of DELETE/)]);

    const grant = /^-- (GRANT DELETE ON .*;)$/m.exec(await superuser.verb(['setup', '--print-sql', '--role', ROLE]))![1]!;
    await db.query(grant);
    const { tables } = JSON.parse(await least.verb([...cleanup, '--json'])) as { tables: { table: string; deleted: number; stayed: Record<string, number> }[] };
    expect(tables.find(({ table }) => table === 'workflow_runs')).toMatchObject({ deleted: of!.runs });
    await Promise.all(running.map((program) => program.stop()));
  });

  test('teardown by the role is refused with the cure before anything is touched, and its SQL takes everything back', async () => {
    const before = await sourceShape(db, here);
    expect(await least.verb(['teardown', '--json'], 2)).toContain('PG_RIGHTS');
    expect(await sourceShape(db, here)).toEqual(before);
    await runByHand(await least.verb(['teardown', '--print-sql']));
    expect(await sourceShape(db, here)).toMatchObject({ identities: { workflow_runs: 'default' }, indexes: [], published: [], slots: [] });
    await proveDifyWrites(db);
    await least.verb(['teardown']);
  });

  test('without the grants setup is refused with every right that is missing', async () => {
    await db.query(`REVOKE SELECT ON workflow_runs FROM ${ROLE}; ALTER ROLE ${ROLE} NOREPLICATION`);
    const answer = await least.verb(['setup', '--json'], 2);
    for (const text of ['PG_RIGHTS', 'may not read workflow_runs', 'has no REPLICATION', 'does not own workflow_app_logs', 'may not create a publication', '--print-sql']) expect(answer).toContain(text);
    expect(await sourceShape(db, here)).toMatchObject({ indexes: [], published: [], slots: [] });
  });
});
