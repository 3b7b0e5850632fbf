import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LocalServer } from '../../../scripts/local/server.ts';
import { TABLES } from '../../../src/core/contracts.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { ownServers, type Isolation } from '../../support/servers.ts';
import { open, proveDifyWrites, runSetup, runTeardown, sourceShape } from '../support/source.ts';

/** On PostgreSQL 15, as Dify ships it, with settings that other tests must not suffer. One story. */
const servers = ownServers();
let server: LocalServer;
let here: Isolation;
let client: pg.Client;

beforeAll(async () => {
  server = await servers.postgres({ version: '15', settings: { max_slot_wal_keep_size: '1MB', min_wal_size: '32MB', max_wal_size: '64MB' } });
  here = { postgresUrl: server.url, database: 'dify', slot: 'own', publication: 'own' } as Isolation;
  client = await open(server.url);
  await createDifySchema(client);
});
afterAll(() => client?.end());

async function set(name: string, value: string): Promise<void> {
  await client.query('SET synchronous_commit = local');
  await client.query(`ALTER SYSTEM SET ${name} = '${value}'`);
  await client.query('SELECT pg_reload_conf()');
  // the reload reaches each session on its own
  for (;;) {
    const fresh = await open(server.url);
    const { rows } = await fresh.query<{ value: string }>(`SELECT current_setting('${name}') AS value`);
    await fresh.end();
    if (rows[0]!.value === value) return;
  }
}

const SET_UP = { identities: Object.fromEntries(TABLES.map((table) => [table, `dify_es_identity_${table}`])), indexes: [...TABLES], published: [...TABLES].sort(), slots: ['own'] };

describe('setup on PostgreSQL 15', () => {
  test('a server that would count the reader as synchronous standby is refused before anything is touched', async () => {
    for (const names of ['*', 'FIRST 1 (other, "dify-es stream")']) {
      await set('synchronous_standby_names', names);
      await expect(runSetup(here)).rejects.toMatchObject({ code: 'PG_SYNC_STANDBY' });
    }
    expect(await sourceShape(client, here)).toMatchObject({ indexes: [], published: [], slots: [] });
  });

  test('a synchronous standby that is missing does not hold setup up, with Dify behind its lock', async () => {
    await set('synchronous_standby_names', 'nobody');
    await runSetup(here);
    await set('synchronous_standby_names', '');
    expect(await sourceShape(client, here)).toEqual(SET_UP);
    await proveDifyWrites(client);
  });

  test('a slot that the server gave up is made anew', async () => {
    await client.query('CREATE TABLE filler (t text)');
    const lost = async (): Promise<boolean> => (await client.query<{ s: string }>(`SELECT wal_status AS s FROM pg_replication_slots WHERE slot_name = 'own'`)).rows[0]?.s === 'lost';
    while (!(await lost())) {
      await client.query(`INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 5000)`);
      await client.query('SELECT pg_switch_wal()');
      await client.query('CHECKPOINT');
    }
    const { steps } = await runSetup(here);
    expect(steps.filter(({ step }) => step === 'slot').map(({ detail }) => detail)).toEqual([expect.stringContaining('dropped WAL'), expect.stringContaining('created at')]);
    expect(await lost()).toBe(false);
    expect(await sourceShape(client, here)).toEqual(SET_UP);
  });

  test('teardown takes it back', async () => {
    await runTeardown(here);
    expect(await sourceShape(client, here)).toMatchObject({ identities: { workflow_runs: 'default' }, indexes: [], published: [], slots: [] });
    await proveDifyWrites(client);
  });
});
