import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LSN_ZERO, parseLsn, type Lsn } from '../../src/core/lsn.ts';
import { drain, markNow, type DrainPorts } from '../../src/ops/drain.ts';
import { createSlot, inspectSlot, type SlotState } from '../../src/pipeline/capture/slot.ts';
import { pinned } from '../pipeline/backfill/harness.ts';
import { isolate } from '../support/servers.ts';

const here = isolate(import.meta.filename);
let db: pg.Client;
let other: pg.Client;

beforeAll(async () => {
  [db, other] = [await pinned(here)(), await pinned(here)()];
  await other.query('CREATE TABLE t (n int)');
  await createSlot(db, here.slot);
});
afterAll(async () => {
  await db.query('SELECT pg_drop_replication_slot($1)', [here.slot]);
  await Promise.all([db.end(), other.end()]);
});

const flushed = async (): Promise<Lsn> => parseLsn((await db.query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn')).rows[0]!.lsn);
const options = { stallMs: 300, unattendedMs: 300, signal: new AbortController().signal };

describe('the mark of a drain point', () => {
  it('lies above every commit that is visible, also above one that was not flushed', async () => {
    await other.query('SET synchronous_commit = off');
    for (let n = 0; n < 50; n++) {
      await other.query('INSERT INTO t VALUES ($1)', [n]);
      const { rows: [inserted] } = await other.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
      expect(await markNow(db)).toBeGreaterThanOrEqual(parseLsn(inserted!.lsn));
    }
  });

  it('is flushed, so that a reader of the log can come to it without any further write', async () => {
    await other.query('SET synchronous_commit = off');
    for (let n = 0; n < 200; n++) {
      await other.query('INSERT INTO t VALUES ($1)', [n]);
      const mark = await markNow(db);
      expect(await flushed()).toBeGreaterThanOrEqual(mark);
    }
  });
});

describe('a drain', () => {
  const group = (left: () => bigint, members = 1): DrainPorts<string>['group'] => ({ ends: async () => 'ends', left: async (ends) => (expect(ends).toBe('ends'), left()), members: async () => members });
  const at = (slot: SlotState | undefined, confirmed: Lsn, activePid: number | null = 1): SlotState => ({ ...slot!, confirmedFlushLsn: confirmed, activePid });

  it('waits for the slot first and for the ends of the topics taken after that', async () => {
    const steps: string[] = [];
    const slot = await inspectSlot(db, here.slot);
    let looks = 0;
    const lsn = await drain({
      db,
      slot: async () => (steps.push('slot'), at(slot, ++looks < 3 ? LSN_ZERO : ((1n << 60n) as Lsn))),
      group: { ends: async () => (steps.push('ends'), 'ends'), left: async () => (steps.push('left'), steps.filter((step) => step === 'left').length < 2 ? 4n : 0n), members: async () => 1 },
    }, options);
    expect(steps).toEqual(['slot', 'slot', 'slot', 'ends', 'left', 'left']);
    expect(lsn).toBeLessThanOrEqual(await flushed());
  });

  it('says NOT_DRAINED and who does not get on', async () => {
    const slot = await inspectSlot(db, here.slot);
    await expect(drain({ db, slot: () => inspectSlot(db, here.slot), group: group(() => 0n) }, options)).rejects.toMatchObject({ code: 'NOT_DRAINED', message: expect.stringMatching(/nobody reads the slot$/) });
    const done = async () => at(slot, (1n << 60n) as Lsn);
    await expect(drain({ db, slot: done, group: group(() => 3n, 0) }, options)).rejects.toMatchObject({ code: 'NOT_DRAINED', message: '3 records are not settled, and the consumer group has no member' });
    await expect(drain({ db, slot: done, group: group(() => 3n) }, options)).rejects.toMatchObject({ message: expect.stringMatching(/without any progress/) });
  });

  it('says so when the slot is gone or lost', async () => {
    const slot = await inspectSlot(db, here.slot);
    await expect(drain({ db, slot: () => inspectSlot(db, 'no_such_slot'), group: group(() => 0n) }, options)).rejects.toMatchObject({ code: 'PG_SLOT_MISSING' });
    await expect(drain({ db, slot: async () => ({ ...slot!, walStatus: 'lost' }), group: group(() => 0n) }, options)).rejects.toMatchObject({ code: 'PG_SLOT_LOST' });
  });
});
