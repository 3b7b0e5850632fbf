import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import { TABLES } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { formatLsn, type Lsn } from '../../core/lsn.ts';
import { stateKeys, type ReadyRecord, type SwitchedRecord } from '../../core/state.ts';
import { allRequired, allRuns } from '../../pipeline/backfill/run-record.ts';
import { qualifiedName } from '../../pipeline/backfill/table-source.ts';
import { connect, query, type Queryable } from '../../pipeline/capture/pg-connection.ts';
import { pgTarget } from '../../run/connections.ts';
import { openDrainer } from '../../run/drain.ts';
import type { Platform } from '../../run/platform.ts';
import { compare, countLetters, type Comparison } from './assess.ts';
import { backfillFinding } from './findings.ts';

export interface ConfirmOptions {
  readonly tenantIds: readonly string[];
  /** PostgreSQL must not have been written for the tenants for so long. */
  readonly quietMs: number;
  readonly limitMs: number;
  readonly signal: AbortSignal;
}

export interface Confirmed {
  readonly switched: readonly SwitchedRecord[];
  /** PostgreSQL was written for a tenant while it was recorded: a process of Dify still has the old settings. */
  readonly writtenMeanwhile: boolean;
}

/**
 * Records that Elasticsearch is the truth of these tenants: after Dify was restarted with the settings for writes.
 *
 * Every row that Dify wrote to PostgreSQL before its restart has to be in Elasticsearch first, since the sinks leave
 * these tenants alone from then on. So: silence, then the drain point, and still the same rows as before it.
 */
export async function confirmSwitch(config: Config, platform: Platform, { tenantIds, quietMs, limitMs, signal }: ConfirmOptions, log: Logger): Promise<Confirmed> {
  const { control } = platform.state;
  await requireReady(platform, tenantIds);
  const db = await connect(pgTarget(config), { role: 'cutover' });
  const drainer = await openDrainer(config, platform, log, signal);
  const look = (): Promise<string> => fingerprint(db, config.postgres.schema, tenantIds);
  try {
    const deadline = performance.now() + limitMs;
    let seen = await look();
    for (;;) {
      await sleep(quietMs, undefined, { signal });
      let now = await look();
      if (now === seen) {
        const at = new Date().toISOString();
        const { lsn } = await drainer.drain();
        now = await look();
        if (now === seen) {
          // it may have taken minutes, and hours since the tenants were found ready
          await requireReady(platform, tenantIds);
          return await record(at, lsn, now);
        }
      }
      seen = now;
      if (performance.now() > deadline) throw new DifyEsError('ANSWER_NO', 'PostgreSQL is still being written for these tenants: a process of Dify has the old settings');
      log.info('PostgreSQL is still being written for these tenants');
    }
  } finally {
    await Promise.allSettled([drainer.close(), db.end()]);
  }

  async function record(at: string, lsn: Lsn, before: string): Promise<Confirmed> {
    const switched: SwitchedRecord[] = [];
    for (const tenantId of tenantIds) {
      // A second --confirm moves nothing: rows that came late since the first one are found from its time on.
      const known = control.get<SwitchedRecord>(stateKeys.switched(tenantId));
      const one = known ?? { tenantId, at, lsn: formatLsn(lsn) };
      if (!known) await control.put(stateKeys.switched(tenantId), one);
      switched.push(one);
    }
    return { switched, writtenMeanwhile: (await look()) !== before };
  }
}

/** What was ready once may have lost its slot since: nothing of this program mends a tenant after the switch. */
async function requireReady(platform: Platform, tenantIds: readonly string[]): Promise<void> {
  const { control } = platform.state;
  await control.refresh();
  const letters = await countLetters(platform, tenantIds);
  for (const tenantId of tenantIds) {
    if (!control.get<ReadyRecord>(stateKeys.ready(tenantId))) throw new DifyEsError('ANSWER_NO', `${tenantId} was not found ready: run dify-es cutover --tenant-id ${tenantId} first`);
    const backfill = backfillFinding(tenantId, allRuns(control), allRequired(control));
    if (backfill.level === 'fail') throw new DifyEsError('ANSWER_NO', `${tenantId} is not ready any more; backfill: ${backfill.message}`);
    const { open } = letters.get(tenantId)!;
    if (open > 0) throw new DifyEsError('ANSWER_NO', `${open} dead letters of ${tenantId} are open: nothing would redrive them after the switch`);
  }
}

/** Another text as soon as a row of the tenants was inserted, changed or deleted. Reads their rows, without TOAST. */
async function fingerprint(db: Queryable, schema: string, tenantIds: readonly string[]): Promise<string> {
  const parts: string[] = [];
  for (const table of TABLES) {
    const name = qualifiedName(schema, table);
    const [found] = await query<{ oid: string | null }>(db, 'SELECT to_regclass($1)::text AS oid', [name]);
    if (!found?.oid) continue;
    const [row] = await query<{ text: string }>(db, `SELECT count(*) || '/' || coalesce(sum(hashtextextended(id::text || ' ' || xmin::text, 0)), 0) AS text FROM ONLY ${name} WHERE tenant_id = ANY ($1::uuid[])`, [tenantIds]);
    parts.push(row!.text);
  }
  return parts.join(' ');
}

export interface Reverted {
  readonly was: 'not-switched' | 'switched';
  readonly verdict: Comparison['verdict'];
  readonly onlyInElasticsearch: number;
  readonly differences: number;
  readonly done: boolean;
}

/**
 * The way back: only when both ends are equal, or by force. Dify may have written to Elasticsearch alone before the switch
 * was confirmed too, from its restart on.
 */
export async function revertSwitch(config: Config, platform: Platform, tenantId: string, force: boolean, log: Logger, signal: AbortSignal): Promise<Reverted> {
  const { control } = platform.state;
  await control.refresh();
  const was = control.get(stateKeys.switched(tenantId)) === undefined ? 'not-switched' : 'switched';
  const { verdict, difyOwn, differences } = await compare(config, platform, tenantId, log, signal);
  const done = force || (verdict === 'equal' && difyOwn === 0);
  if (done) for (const key of [stateKeys.switched(tenantId), stateKeys.ready(tenantId)]) if (control.get(key) !== undefined) await control.remove(key);
  return { was, verdict, onlyInElasticsearch: difyOwn, differences, done };
}
