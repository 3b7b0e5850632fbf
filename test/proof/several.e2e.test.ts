import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BackfillResult } from '../../src/pipeline/backfill/backfill.ts';
import type { CrashPoint } from '../../src/core/crash-point.ts';
import { createDifySchema } from '../support/dify/schema.ts';
import { type Migrates, openMigrates } from '../support/migrates.ts';
import { Pipeline } from '../support/pipeline.ts';
import type { Program } from '../support/program.ts';
import { isolate } from '../support/servers.ts';

/*
 * migrate in several processes: they share the ranges of one run, and whatever becomes of one of them, the others end
 * it, both ends are equal, and so is a replay of the topics into empty indices.
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2' });
const ROWS = 8_000;
/** Slow enough that a process which comes a second later still finds work. */
const SLOW = ['migrate', '--workers', '1', '--batch-size', '100', '--rate', '1000', '--json', '--data-type', 'app_logs'] as const;
let db: pg.Client;
let sink: Program;
let migrates: Migrates;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  // Pages that are nearly empty: a dozen ranges of 1 MB with few rows, so that each process has its share.
  await db.query('ALTER TABLE workflow_app_logs SET (fillfactor = 10)');
  await db.query(
    `INSERT INTO workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
     SELECT gen_random_uuid(), a.id, a.id, a.id, gen_random_uuid(), 'web-app', 'account', a.id, date_trunc('month', now()) + g * interval '1 second'
     FROM generate_series(1, $1::int) g, (SELECT gen_random_uuid() AS id) a`, [ROWS],
  );
  await pipeline.verb(['setup']);
  [, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
  migrates = await openMigrates(here);
});
afterAll(async () => {
  await pipeline.killAll();
  await migrates?.close();
  await db?.end();
});

type Answer = BackfillResult & { readonly seconds: number };
async function answerOf(program: Program): Promise<Answer> {
  const { code } = await program.ended;
  expect(code, program.describe()).toBe(0);
  return JSON.parse(program.stdout) as Answer;
}

const joined = (program: Program): Promise<void> => program.said('run is open');
/** Whatever was written while they read: newer rows that no older one may follow in the log. */
async function changeRows(): Promise<void> {
  await db.query("UPDATE workflow_app_logs SET created_from = 'changed' WHERE id IN (SELECT id FROM workflow_app_logs ORDER BY id LIMIT 800)");
  await db.query('DELETE FROM workflow_app_logs WHERE id IN (SELECT id FROM workflow_app_logs ORDER BY id DESC LIMIT 60)');
}

describe('migrate in several processes', () => {
  it('started at the same moment agree on one barrier and share the table', async () => {
    const programs = [1, 2, 3].map(() => pipeline.spawn(SLOW));
    const answers = await Promise.all(programs.map(answerOf));
    expect(new Set(answers.map(({ runId, barrierLsn }) => `${runId} ${barrierLsn}`)).size).toBe(1);
    expect(answers.filter(({ resumed }) => !resumed)).toHaveLength(1);
    const shares = answers.map(({ ownRows }) => ownRows);
    expect(shares.reduce((sum, rows) => sum + rows, 0)).toBe(ROWS);
    // How much falls to whom is a matter of who was started first, on a busy machine by seconds.
    expect(shares.filter((rows) => rows > 0).length, String(shares)).toBeGreaterThan(1);
    for (const { tables } of answers) expect(tables).toMatchObject([{ rows: ROWS, done: true }]);
    await pipeline.equal();
  });

  it('one that is killed in the middle of a range: another takes the range over and ends the run', async () => {
    await pipeline.emptied();
    const [killed, heir] = [pipeline.spawn(SLOW), pipeline.spawn(SLOW)];
    await Promise.all([joined(killed), joined(heir)]);
    await migrates.inMidRange(killed);
    await changeRows();
    await killed.kill9();
    const answer = await answerOf(heir);
    expect(heir.hasSaid('its ranges are taken over'), heir.describe()).toBe(true);
    expect(answer.state).toBe('done');
    expect(answer.ownRows).toBeLessThan(answer.tables[0]!.rows);
    await pipeline.equal();
  });

  it('one that is stopped in order leaves its ranges to the others at once', async () => {
    await pipeline.emptied();
    const [stopped, heir] = [pipeline.spawn(SLOW), pipeline.spawn(SLOW)];
    await Promise.all([joined(stopped), joined(heir)]);
    await migrates.inMidRange(stopped);
    process.kill(stopped.pid, 'SIGTERM');
    expect((await stopped.ended).code, stopped.describe()).toBe(1);
    await answerOf(heir);
    expect(heir.hasSaid('its ranges are taken over'), heir.describe()).toBe(false);
    await pipeline.equal();
  });

  it('one that stood still until its ranges were taken over is refused when it wakes', async () => {
    await pipeline.emptied();
    const zombie = pipeline.spawn(SLOW);
    await migrates.inMidRange(zombie);
    zombie.pause();
    const heir = pipeline.spawn(SLOW);
    await heir.said('its ranges are taken over');
    await changeRows();
    zombie.resume();
    expect((await zombie.ended).code, zombie.describe()).toBe(1);
    expect(JSON.parse(zombie.stdout)).toMatchObject({ error: { code: 'KAFKA_FENCED' } });
    const answer = await answerOf(heir);
    expect(answer.tables).toMatchObject([{ done: true }]);
    await pipeline.equal();
  });

  it.each(['backfill.segments-claimed', 'backfill.run-closed'] satisfies CrashPoint[])('one that dies at %s leaves nothing undone', async (point) => {
    await pipeline.emptied();
    const dies = pipeline.spawn(SLOW, { crashAt: { point, nth: 1 } });
    const heir = pipeline.spawn(SLOW);
    const [{ signal }, answer] = await Promise.all([dies.ended, heir.ended]);
    // The one that ends the run is one of the two by chance.
    if (point !== 'backfill.run-closed') expect(signal, dies.describe()).toBe('SIGKILL');
    expect(answer.code, heir.describe()).toBe(0);
    // Not by another migrate, which would find no open run and read all anew.
    expect((await pipeline.recorded()).openRuns).toBe(0);
    await pipeline.equal();
  });

  it.each(['backfill.member-marked', 'backfill.member-fenced'] satisfies CrashPoint[])('one that dies at %s, taking another\'s ranges over, is followed by the next', async (point) => {
    await pipeline.emptied();
    const first = pipeline.spawn(SLOW);
    await migrates.inMidRange(first);
    await first.kill9();
    const second = pipeline.spawn(SLOW, { crashAt: { point, nth: 1 } });
    const { signal } = await second.ended;
    expect({ signal, witness: second.witness }, second.describe()).toEqual({ signal: 'SIGKILL', witness: point });
    await changeRows();
    expect(await answerOf(pipeline.spawn(SLOW))).toMatchObject({ state: 'done', resumed: true });
    await pipeline.equal();
  });

  it('has left nothing in the log that is older than what lies before it: a replay into empty indices ends equal', async () => {
    await sink.stop();
    await pipeline.replayedEqual();
  });
});
