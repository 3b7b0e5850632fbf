import pg from 'pg';
import { parseLsn } from '../../core/lsn.ts';
import type { ObservedSource } from '../../pipeline/capture/epoch.ts';
import { sessionConfig, toPgError, type PgTarget, type Queryable } from '../../pipeline/capture/pg-connection.ts';
import { inspectSlot } from '../../pipeline/capture/slot.ts';

interface System {
  readonly systemid: string;
  readonly timeline: number;
  readonly xlogpos: string;
}

/** IDENTIFY_SYSTEM on a replication connection, which also proves that the role may open one. */
export async function identifySystem(target: PgTarget, role: string): Promise<System> {
  // `replication` is a parameter of the startup packet that the types of node-postgres do not know
  const client = new pg.Client({ ...sessionConfig(target, { role }), replication: 'database' } as pg.ClientConfig);
  client.on('error', () => undefined);
  try {
    await client.connect();
    return (await client.query<System>('IDENTIFY_SYSTEM')).rows[0]!;
  } catch (error) {
    throw toPgError(error, 'connect');
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** The source as the reader would find it; null while a reader holds the slot, or when there is none. */
export async function observeSource(target: PgTarget, db: Queryable, slot: string, role: string): Promise<ObservedSource | null> {
  const system = await identifySystem(target, role);
  const state = await inspectSlot(db, slot);
  if (!state || state.activePid !== null || state.confirmedFlushLsn === null) return null;
  return { systemIdentifier: system.systemid, timeline: system.timeline, currentLsn: parseLsn(system.xlogpos), slot, slotConfirmedLsn: state.confirmedFlushLsn };
}
