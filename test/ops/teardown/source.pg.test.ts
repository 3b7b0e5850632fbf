import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { TABLES } from '../../../src/core/contracts.ts';
import { isolate } from '../../support/servers.ts';
import { expectUntouched, freshDatabase, HELD_MS, open, proveDifyWrites, runSetup, runTeardown, sourceShape, startTraffic } from '../support/source.ts';

const here = isolate(import.meta.filename);
const ALL_INDEXES = Object.fromEntries(TABLES.map((table) => [table, `dify_es_identity_${table}`]));
let client: pg.Client;

beforeAll(async () => {
  client = await open(here.postgresUrl, 'dify-worker');
});
afterAll(() => client.end());
beforeEach(() => freshDatabase(client));

async function expectSetUp(): Promise<void> {
  expect(await sourceShape(client, here)).toEqual({ identities: ALL_INDEXES, indexes: [...TABLES], published: [...TABLES].sort(), slots: [here.slot] });
  await proveDifyWrites(client);
}

describe('teardown', () => {
  test('a slot that is read stops it before anything is touched', async () => {
    await runSetup(here);
    const reader = await openReplication();
    await expect(runTeardown(here)).rejects.toMatchObject({ code: 'PG_SLOT_BUSY' });
    await expectSetUp();
    await reader();
    await runTeardown(here);
    await expectUntouched(client, here);
  });

  test('the indexes that another installation on this database needs stay until its own teardown', async () => {
    const second = { publication: `${here.publication}_b`, slot: `${here.slot}_b` };
    await runSetup(here);
    await runSetup(here, { names: second });
    await runTeardown(here);
    expect(await sourceShape(client, here)).toMatchObject({ identities: ALL_INDEXES, published: [], slots: [second.slot] });
    await runTeardown(here, { names: second });
    await expectUntouched(client, here);
  });

  test('it never makes a writer wait longer than the lock_timeout', async () => {
    await runSetup(here);
    const traffic = await startTraffic(here.postgresUrl);
    const holder = await open(here.postgresUrl, 'dify-worker');
    await holder.query(`BEGIN; UPDATE workflow_app_logs SET created_from = 'installed-app' WHERE false`);
    let released = false;
    await runTeardown(here, {
      onSay: (line) => {
        if (!/waiting/.test(line) || released) return;
        released = true;
        void sleep(HELD_MS).then(() => holder.query('COMMIT'));
      },
    });
    expect(released).toBe(true);
    await holder.end();
    const { slowestMs, failures } = await traffic.stop();
    expect(failures).toEqual([]);
    // LOCK_TIMEOUT_MS is the bound; the rest is a busy machine. Who queued behind the holder would wait for all of HELD_MS.
    expect(slowestMs).toBeLessThan(HELD_MS - 1000);
    await expectUntouched(client, here);
  });
});

/** A reader that holds the slot; returns what ends it. */
async function openReplication(): Promise<() => Promise<void>> {
  const { LogicalReplicationService, PgoutputPlugin } = await import('pg-logical-replication');
  const service = new LogicalReplicationService({ connectionString: here.postgresUrl }, { acknowledge: { auto: false, timeoutSeconds: 0 } });
  service.on('error', () => undefined);
  const started = new Promise<void>((resolve) => service.once('start', () => resolve()));
  void service.subscribe(new PgoutputPlugin({ protoVersion: 1, publicationNames: [here.publication] }), here.slot).catch(() => undefined);
  await started;
  return async () => {
    await service.stop();
    for (;;) {
      const { rows } = await client.query<{ active: boolean }>('SELECT active FROM pg_replication_slots WHERE slot_name = $1', [here.slot]);
      if (!rows[0]?.active) return;
      await sleep(50);
    }
  };
}
