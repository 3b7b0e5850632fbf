import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { identityIndexName } from '../../../src/ops/setup/names.ts';
import { dropDifySchema } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';
import { expectUntouched, freshDatabase, HELD_MS, ONE, open, proveDifyWrites, runSetup, runTeardown, sourceShape, startTraffic } from '../support/source.ts';

const here = isolate(import.meta.filename);
const TABLES = ['workflow_app_logs', 'workflow_node_execution_offload', 'workflow_node_executions', 'workflow_runs'];
const ALL_INDEXES = Object.fromEntries(['workflow_runs', 'workflow_app_logs', 'workflow_node_executions', 'workflow_node_execution_offload'].map((table) => [table, `dify_es_identity_${table}`]));
let client: pg.Client;

beforeAll(async () => {
  client = await open(here.postgresUrl, 'dify-worker');
});
afterAll(() => client.end());

beforeEach(() => freshDatabase(client));

async function expectSetUp(): Promise<void> {
  expect(await sourceShape(client, here)).toEqual({ identities: ALL_INDEXES, indexes: Object.keys(ALL_INDEXES), published: TABLES, slots: [here.slot] });
  await proveDifyWrites(client);
}

describe('an untouched database', () => {
  test('setup makes indexes, identities, publication and slot, and a second run changes nothing', async () => {
    await runSetup(here);
    await expectSetUp();
    const again = await runSetup(here);
    expect(again.steps.map(({ did }) => did)).toEqual(Array(6).fill('already'));
    await expectSetUp();
  });

  test('teardown takes everything back, and a second run finds nothing', async () => {
    await runSetup(here);
    await runTeardown(here);
    await expectUntouched(client, here);
    const again = await runTeardown(here);
    expect(new Set(again.steps.map(({ did }) => did))).toEqual(new Set(['already']));
  });

  test('the identity holds all three columns, so a deleted row is logged with them', async () => {
    await runSetup(here);
    const { rows } = await client.query<{ columns: string }>(
      `SELECT string_agg(a.attname, ',' ORDER BY a.attname) AS columns FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indisreplident AND i.indrelid = 'workflow_runs'::regclass`,
    );
    expect(rows[0]!.columns).toBe('created_at,id,tenant_id');
  });

  test('the comment of the index answers the person who finds it unused', async () => {
    await runSetup(here);
    const { rows } = await client.query<{ comment: string }>(`SELECT obj_description('${identityIndexName('workflow_runs')}'::regclass) AS comment`);
    expect(rows[0]!.comment).toMatch(/not unused.*teardown.*\[before: default\]$/);
  });
});

describe('other shapes', () => {
  test('a release without the offload table is set up without it', async () => {
    await freshDatabase(client, '1.8.1');
    await runSetup(here);
    expect((await sourceShape(client, here))['published']).toEqual(['workflow_app_logs', 'workflow_node_executions', 'workflow_runs']);
  });

  test('a table that an upgrade of Dify brings is added by the next setup', async () => {
    await freshDatabase(client, '1.8.1');
    await runSetup(here);
    await dropDifySchemaExcept();
    await client.query(`CREATE TABLE workflow_node_execution_offload (id uuid PRIMARY KEY, created_at timestamp NOT NULL, tenant_id uuid NOT NULL, app_id uuid NOT NULL)`);
    const { steps } = await runSetup(here);
    expect(steps.find(({ step }) => step === 'publication')).toMatchObject({ did: 'done', detail: 'workflow_node_execution_offload added' });
    await expectSetUp();
  });

  test('REPLICA IDENTITY FULL is accepted and left as it is by setup and teardown', async () => {
    await client.query('ALTER TABLE workflow_app_logs REPLICA IDENTITY FULL');
    await runSetup(here);
    expect(await sourceShape(client, here)).toMatchObject({ identities: { workflow_app_logs: 'full' }, indexes: expect.not.arrayContaining(['workflow_app_logs']) as unknown });
    await runTeardown(here);
    expect(await sourceShape(client, here)).toMatchObject({ identities: { workflow_app_logs: 'full' } });
  });

  test('an identity that was NOTHING, or an index of somebody else, is put back by teardown', async () => {
    await client.query('CREATE UNIQUE INDEX theirs ON workflow_runs (id, created_at)');
    await client.query('ALTER TABLE workflow_runs REPLICA IDENTITY USING INDEX theirs; ALTER TABLE workflow_app_logs REPLICA IDENTITY NOTHING');
    await runSetup(here);
    expect(await sourceShape(client, here)).toMatchObject({ identities: ALL_INDEXES });
    await runTeardown(here);
    expect(await sourceShape(client, here)).toMatchObject({ identities: { workflow_runs: 'theirs', workflow_app_logs: 'nothing', workflow_node_executions: 'default' }, indexes: [] });
  });

  test('what cannot be read is refused with every reason, before anything is touched', async () => {
    await client.query('ALTER TABLE workflow_app_logs DROP CONSTRAINT workflow_app_log_pkey');
    await client.query('ALTER TABLE workflow_runs ALTER tenant_id DROP NOT NULL');
    await client.query('ALTER TABLE workflow_node_execution_offload RENAME TO old; CREATE VIEW workflow_node_execution_offload AS SELECT * FROM old');
    await expect(runSetup(here)).rejects.toMatchObject({
      code: 'PG_UNFIT',
      message: expect.stringMatching(/workflow_runs\.tenant_id may be NULL[^]*workflow_app_logs has no primary key[^]*workflow_node_execution_offload is no ordinary table but a view/) as unknown,
    });
    expect(await sourceShape(client, here)).toMatchObject({ indexes: [], published: [], slots: [] });
    await client.query('DROP VIEW workflow_node_execution_offload; DROP TABLE old');
  });

  test('a partitioned table is refused', async () => {
    await client.query('DROP TABLE workflow_app_logs; CREATE TABLE workflow_app_logs (id uuid, tenant_id uuid NOT NULL, created_at timestamp NOT NULL) PARTITION BY RANGE (created_at)');
    await expect(runSetup(here)).rejects.toMatchObject({ code: 'PG_UNFIT', message: expect.stringContaining('workflow_app_logs is partitioned') as unknown });
  });

  test('a database without any of the tables is refused', async () => {
    await dropDifySchema(client);
    await expect(runSetup(here)).rejects.toMatchObject({ code: 'PG_UNFIT', message: expect.stringContaining('no table of Dify') as unknown });
  });
});

describe('leftovers', () => {
  test('a cancelled build is taken away and done again, and is never made the identity', async () => {
    await leaveInvalidIndex('workflow_app_logs');
    expect(await sourceShape(client, here)).toMatchObject({ indexes: ['workflow_app_logs'] });
    const { steps } = await runSetup(here);
    expect(steps).toContainEqual({ step: 'index', subject: 'workflow_app_logs', did: 'done', detail: 'an unusable index was dropped' });
    await expectSetUp();
  });

  test('an invalid index that is the identity of a published table stops Dify, and setup ends that first', async () => {
    await leaveInvalidIndex('workflow_app_logs');
    await client.query(`ALTER TABLE workflow_app_logs REPLICA IDENTITY USING INDEX ${identityIndexName('workflow_app_logs')}`);
    await client.query(`CREATE PUBLICATION ${here.publication} FOR TABLE workflow_app_logs`);
    // the trap itself, as a learning test: without it the rest proves nothing
    await expect(proveDifyWrites(client)).rejects.toMatchObject({ code: '55000' });
    await client.query('ROLLBACK');
    const { steps } = await runSetup(here);
    expect(steps[0]).toMatchObject({ step: 'identity', subject: 'workflow_app_logs', detail: expect.stringContaining('set back to default') as unknown });
    await expectSetUp();
  });

  test('an identity whose index somebody dropped is mended, by setup and by teardown', async () => {
    for (const mend of [runSetup, runTeardown]) {
      await runSetup(here);
      await client.query(`DROP INDEX ${identityIndexName('workflow_runs')}`);
      await expect(proveDifyWrites(client)).rejects.toMatchObject({ code: '55000' });
      await client.query('ROLLBACK');
      await mend(here);
      await proveDifyWrites(client);
    }
    await expectUntouched(client, here);
  });

  test('a slot that is older than its publication is made anew, since it could never be read', async () => {
    await runSetup(here);
    const before = await confirmedLsn();
    await client.query(`DROP PUBLICATION ${here.publication}`);
    const { steps } = await runSetup(here);
    expect(steps.filter(({ step }) => step === 'slot').map(({ detail }) => detail)).toEqual([expect.stringContaining('publication is gone'), expect.stringContaining('created at')]);
    expect(await confirmedLsn()).not.toBe(before);
    await expectSetUp();
  });

  test('a slot of another plugin or of another database is refused', async () => {
    await client.query(`SELECT pg_create_physical_replication_slot('${here.slot}')`);
    await expect(runSetup(here)).rejects.toMatchObject({ code: 'PG_UNFIT', message: expect.stringContaining('physical') as unknown });
    await client.query(`SELECT pg_drop_replication_slot('${here.slot}')`);
  });

  test('a publication with a row filter is refused, since changes would be missing', async ({ skip }) => {
    const { rows } = await client.query<{ v: number }>(`SELECT current_setting('server_version_num')::int AS v`);
    if (rows[0]!.v < 150_000) skip();
    await client.query(`CREATE PUBLICATION ${here.publication} FOR TABLE workflow_app_logs WHERE (id IS NOT NULL)`);
    await expect(runSetup(here)).rejects.toMatchObject({ code: 'PG_UNFIT', message: expect.stringContaining('row filter') as unknown });
  });

  test('a publication without all operations is completed', async () => {
    await client.query(`CREATE PUBLICATION ${here.publication} FOR TABLE workflow_app_logs WITH (publish = 'insert')`);
    await runSetup(here);
    const { rows } = await client.query(`SELECT pubupdate AND pubdelete AND pubtruncate AS all FROM pg_publication WHERE pubname = $1`, [here.publication]);
    expect(rows[0]).toEqual({ all: true });
    await expectSetUp();
  });
});

describe('beside an application at work', () => {
  test('no statement of Dify waits longer than the lock_timeout, though transactions are open during all of it', async () => {
    const traffic = await startTraffic(here.postgresUrl);
    const holder = await open(here.postgresUrl, 'dify-worker');
    await holder.query('BEGIN');
    // not the row of the traffic, which would then wait for this one and not for setup
    await holder.query(`UPDATE workflow_app_logs SET created_from = 'installed-app' WHERE id <> ${ONE}`);
    let released = false;
    const names: string[] = [];
    const { said } = await runSetup(here, {
      onSay: (line) => {
        names.push(line);
        // first the build waits for the writer; then the identity waits for a reader that came meanwhile
        if (/identity index of workflow_app_logs: waiting/.test(line) && !released) {
          released = true;
          void holder.query('COMMIT').then(() => holder.query('BEGIN; SELECT 1 FROM workflow_app_logs LIMIT 1')).then(async () => {
            await sleep(HELD_MS);
            await holder.query('COMMIT');
          });
        }
      },
    });
    await holder.end();
    const { slowestMs, count, failures } = await traffic.stop();
    expect(released).toBe(true);
    expect(said.filter((line) => /waiting for pid \d+ \(dify-worker, idle in transaction, \d+ s\)/.test(line)).length).toBeGreaterThanOrEqual(1);
    expect(failures).toEqual([]);
    expect(count).toBeGreaterThan(100);
    // LOCK_TIMEOUT_MS is the bound; the rest is a busy machine. Who queued behind the reader would wait for all of HELD_MS.
    expect(slowestMs).toBeLessThan(HELD_MS - 1000);
    await expectSetUp();
  });

  test('behind a long transaction setup does not queue at all: Dify does not stand still for a moment, and setup names who holds it up', async () => {
    const holder = await open(here.postgresUrl, 'nightly-dump');
    const traffic = await startTraffic(here.postgresUrl);
    // no snapshot: the build of the index does not wait for it, only the lock of ALTER TABLE does
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE workflow_app_logs IN ACCESS SHARE MODE');
    await sleep(1600);
    const queue = watchQueue('workflow_app_logs');
    await expect(runSetup(here, { lockWaitMs: 3000 })).rejects.toMatchObject({ code: 'SETUP_BLOCKED', message: expect.stringMatching(/workflow_app_logs.*held by pid \d+ \(nightly-dump, idle in transaction/) as unknown });
    expect(await queue()).toBe(0);
    const { failures } = await traffic.stop();
    expect(failures).toEqual([]);
    await proveDifyWrites(client);
    await holder.query('COMMIT');
    await holder.end();
    await runSetup(here);
    await expectSetUp();
  });

  test('an autovacuum at work on the table yields instead of keeping the identity away', async () => {
    await client.query(`INSERT INTO workflow_app_logs SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'web-app', 'account', gen_random_uuid() FROM generate_series(1, 60000)`);
    await client.query(`ALTER TABLE workflow_app_logs SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0.01)`);
    await client.query(`UPDATE workflow_app_logs SET created_from = 'openapi'`);
    await client.query('ALTER SYSTEM SET autovacuum_naptime = 1');
    await client.query('SELECT pg_reload_conf()');
    try {
      // by then the index is built: what is at stake is the lock of ALTER TABLE, not that of the build
      await client.query(`CREATE UNIQUE INDEX CONCURRENTLY ${identityIndexName('workflow_app_logs')} ON workflow_app_logs (id, tenant_id, created_at)`);
      const vacuum = await until(async () => (await client.query<{ pid: number }>(`SELECT pid FROM pg_stat_progress_vacuum WHERE relid = 'workflow_app_logs'::regclass`)).rows[0]);
      const { said } = await runSetup(here, { lockWaitMs: 15_000 });
      expect(said.join()).not.toContain('without queueing');
      expect((await client.query(`SELECT 1 FROM pg_stat_progress_vacuum WHERE pid = $1 AND relid = 'workflow_app_logs'::regclass`, [vacuum.pid])).rows).toEqual([]);
    } finally {
      await client.query('ALTER SYSTEM RESET autovacuum_naptime');
      await client.query('SELECT pg_reload_conf()');
    }
    await expectSetUp();
  });

  test('a prepared transaction that the slot waits for is named', async () => {
    await runSetup(here);
    await client.query(`SELECT pg_drop_replication_slot('${here.slot}')`);
    const other = await open(here.postgresUrl);
    const gid = `forgotten-${here.slot}`;
    await other.query(`BEGIN; INSERT INTO workflow_app_logs SELECT gen_random_uuid(), tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at FROM workflow_app_logs LIMIT 1; PREPARE TRANSACTION '${gid}'`);
    const { said } = await runSetup(here, { onSay: (line) => void (line.includes(gid) && other.query(`ROLLBACK PREPARED '${gid}'`)) });
    await other.end();
    expect(said).toContainEqual(expect.stringContaining(`prepared transaction '${gid}'`));
    await expectSetUp();
  });

  test('a stop in the middle of the build ends it, leaves Dify unharmed, and the next run goes on', async () => {
    const holder = await open(here.postgresUrl, 'dify-worker');
    await holder.query(`BEGIN; UPDATE workflow_runs SET status = 'running'`);
    const stop = new AbortController();
    await expect(runSetup(here, { signal: stop.signal, onSay: (line) => void (line.includes('waiting for') && stop.abort()) })).rejects.toMatchObject({ code: 'STOPPED' });
    await holder.query('COMMIT');
    await holder.end();
    await proveDifyWrites(client);
    await runSetup(here);
    await expectSetUp();
  });

  test('two setups at once do it once', async () => {
    const [a, b] = await Promise.all([runSetup(here), runSetup(here)]);
    expect([a, b].flatMap(({ said }) => said).filter((line) => line.startsWith('waiting for another setup'))).toHaveLength(1);
    expect([a, b].map(({ steps }) => steps.every(({ did }) => did === 'already')).sort()).toEqual([false, true]);
    await expectSetUp();
  });
});

/** Looks all the time whether anybody waits for a lock that shuts everybody out; returns what ends it and counts. */
function watchQueue(table: string): () => Promise<number> {
  let over = false;
  let seen = 0;
  const watching = (async () => {
    const watcher = await open(here.postgresUrl, 'watcher');
    while (!over) {
      const { rows } = await watcher.query(`SELECT 1 FROM pg_locks WHERE relation = $1::regclass AND mode = 'AccessExclusiveLock' AND NOT granted`, [table]);
      seen += rows.length;
      await sleep(10);
    }
    await watcher.end();
  })();
  return async () => {
    over = true;
    await watching;
    return seen;
  };
}

/** Asks until there is an answer; the time limit of the test ends it otherwise. */
async function until<T>(ask: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await sleep(50);
  }
}

async function confirmedLsn(): Promise<string | undefined> {
  return (await client.query<{ lsn: string }>('SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = $1', [here.slot])).rows[0]?.lsn;
}

/** As a statement_timeout leaves it: the build waits for a writer and is cancelled. */
async function leaveInvalidIndex(table: 'workflow_app_logs'): Promise<void> {
  const holder = await open(here.postgresUrl);
  const builder = await open(here.postgresUrl);
  await holder.query(`BEGIN; UPDATE ${table} SET app_id = app_id`);
  await builder.query(`SET statement_timeout = '300ms'`);
  await expect(builder.query(`CREATE UNIQUE INDEX CONCURRENTLY ${identityIndexName(table)} ON ${table} (id, tenant_id, created_at)`)).rejects.toMatchObject({ code: '57014' });
  await holder.query('ROLLBACK');
  await holder.end();
  await builder.end();
}

async function dropDifySchemaExcept(): Promise<void> {
  await client.query('DROP TABLE IF EXISTS workflow_node_execution_offload');
}
