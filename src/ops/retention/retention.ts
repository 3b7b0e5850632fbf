import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@elastic/elasticsearch';
import { TABLES } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { stateKeys, type ControlLog, type RetentionRecord } from '../../core/state.ts';
import { esError } from '../../pipeline/sink/elastic-errors.ts';
import { Documents, type IndexInfo } from '../validate/documents.ts';
import { planRetention, type RetentionPlan } from './plan.ts';

export interface RetentionOptions {
  readonly client: Client;
  readonly control: ControlLog;
  readonly prefix: string;
  /** Empty: all tenants. */
  readonly tenantIds: readonly string[];
  readonly days: number;
  readonly signal: AbortSignal;
}

/** How long a sink may need to see a new boundary: it follows the control topic. */
const SEEN_AFTER_MS = 2_000;
const ROUNDS = 5;

/** What would be dropped now; reads only. */
export async function retentionPlan({ client, control, prefix, tenantIds, days, signal }: RetentionOptions): Promise<RetentionPlan> {
  await control.refresh();
  const documents = new Documents(client, prefix, signal);
  const indices: IndexInfo[] = [];
  // a closed one holds shards and disk as well, and is among them
  for (const table of TABLES) indices.push(...(await documents.indices(table, tenantIds, 'open,closed')));
  const known = new Map(control.entries<RetentionRecord>(stateKeys.retention('')).map(([, record]) => [record.tenantId, record]));
  return planRetention(indices, known, new Date(), days);
}

/**
 * Records the boundaries and then drops the indices of the plan, each by its own name. The boundary comes first: a late
 * change of a row that is on its way would make the index anew. One that was in a bulk at that moment does, so it is
 * looked again, for these names alone: an index that has come of age since was neither shown nor agreed to.
 */
export async function dropExpired(options: RetentionOptions, plan: RetentionPlan, onDropped: (index: string) => void): Promise<number> {
  const { client, control, signal } = options;
  // A person may have looked at the plan for long, and another retention have gone further meanwhile.
  await control.refresh();
  for (const record of plan.boundaries) {
    const now = control.get<RetentionRecord>(stateKeys.retention(record.tenantId));
    if (!now || now.throughMonth < record.throughMonth) await control.put(stateKeys.retention(record.tenantId), record);
  }
  let dropped = 0;
  const shown = new Set(plan.indices.map(({ name }) => name));
  let { indices } = plan;
  for (let round = 0; round < ROUNDS && indices.length > 0; round++) {
    await sleep(SEEN_AFTER_MS, undefined, { signal }).catch(() => undefined);
    for (const { name } of indices) {
      if (signal.aborted) throw new DifyEsError('STOPPED', 'stopped before everything was dropped; run retention again');
      await dropIndex(client, name);
      onDropped(name);
      dropped++;
    }
    indices = (await retentionPlan(options)).indices.filter(({ name }) => shown.has(name));
  }
  return dropped;
}

/** Never a pattern: `name` comes from an index that was listed and parsed as ours. */
async function dropIndex(client: Client, name: string): Promise<void> {
  if (/[*?,]/.test(name)) throw new DifyEsError('INTERNAL', `refused to delete the pattern ${name}`);
  try {
    await client.transport.request({ method: 'DELETE', path: `/${encodeURIComponent(name)}` }, { ignore: [404] });
  } catch (error) {
    throw esError(error);
  }
}
