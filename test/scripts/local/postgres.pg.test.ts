import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { urlOf } from '../../../scripts/local/postgres.ts';
import { isolate, ownServers } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const own = ownServers();

async function ask<T>(url: string, sql: string): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  const { rows } = await client.query<{ answer: T }>(sql);
  await client.end();
  return rows[0]?.answer as T;
}

describe('the shared PostgreSQL', () => {
  it('gives the file a database of its own on a server with logical replication', async () => {
    expect(await ask(here.postgresUrl, 'select current_database() as answer')).toBe(here.database);
    expect(await ask(here.postgresUrl, "select current_setting('wal_level') as answer")).toBe('logical');
    expect(await ask(here.postgresUrl, "select current_setting('server_encoding') as answer")).toBe('UTF8');
  });
});

describe('a PostgreSQL of one test alone', () => {
  it('keeps port and data over kill -9, a clean stop and a pause', async () => {
    const server = await own.postgres();
    await ask(server.url, 'create table kept (n int)');
    await ask(server.url, 'insert into kept values (1)');

    const killed = server.pid;
    await server.kill9();
    expect(server.running()).toBe(false);
    await server.start();
    expect(server.pid).not.toBe(killed);
    expect(await ask(server.url, 'select n as answer from kept')).toBe(1);

    await server.restart();
    expect(await ask(server.url, 'select n as answer from kept')).toBe(1);

    server.pause();
    const waiting = ask(server.url, 'select n + 1 as answer from kept');
    server.resume();
    expect(await waiting).toBe(2);
  });

  it('that is secure takes TLS with its own CA and the right password, and nothing else', async () => {
    const server = await own.postgres({ secure: true });
    expect(await ask(server.url, 'select ssl as answer from pg_stat_ssl where pid = pg_backend_pid()')).toBe(true);
    const unencrypted = new URL(server.url);
    unencrypted.search = '';
    // 28000 invalid_authorization_specification: no line of pg_hba.conf fits
    await expect(ask(unencrypted.href, 'select 1 as answer')).rejects.toMatchObject({ code: '28000' });
    const guessed = new URL(server.url);
    guessed.password = 'difyai123456';
    await expect(ask(guessed.href, 'select 1 as answer')).rejects.toMatchObject({ code: '28P01' });
  });

  it('can be a promoted copy of another, which has a timeline of its own', async () => {
    const primary = await own.postgres({ version: '15' });
    await ask(primary.url, 'create table copied (n int)');
    await primary.stop();
    const standby = await own.postgres({ version: '15', from: `${primary.home}/data`, standby: true });
    expect(await ask(urlOf(standby.port), 'select pg_is_in_recovery() as answer')).toBe(true);
    expect(await ask(urlOf(standby.port), 'select pg_promote() as answer')).toBe(true);
    expect(await ask(urlOf(standby.port), "select to_regclass('copied')::text as answer")).toBe('copied');
    // The first eight digits of a WAL file's name are its timeline.
    expect(await ask(urlOf(standby.port), 'select left(pg_walfile_name(pg_current_wal_lsn()), 8) as answer')).toBe('00000002');
  });
});
