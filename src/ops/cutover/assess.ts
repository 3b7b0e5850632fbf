import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import { TABLES } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { formatLsn, type Lsn } from '../../core/lsn.ts';
import { stateKeys, type ReadyRecord } from '../../core/state.ts';
import { allRequired, allRuns } from '../../pipeline/backfill/run-record.ts';
import { connect } from '../../pipeline/capture/pg-connection.ts';
import { inspectSlot } from '../../pipeline/capture/slot.ts';
import { openDeadLetters } from '../../pipeline/kafka/dead-letters.ts';
import { pgTarget } from '../../run/connections.ts';
import { openDrainer } from '../../run/drain.ts';
import type { Platform } from '../../run/platform.ts';
import { templateSettings } from '../../run/sink.ts';
import { runValidate } from '../../run/validate.ts';
import { fail, ok, type Finding } from '../check/finding.ts';
import { DIFFERENCE_CLASSES } from '../validate/tally.ts';
import { verdictOf, type ValidationVerdict } from '../validate/report.ts';
import { readTenantIndices } from './elastic.ts';
import {
  backfillFinding, isReady, lettersFinding, mappingFinding, refreshFinding, shardsFinding, slotFinding, validationFinding, type LetterCounts,
} from './findings.ts';

export interface Assessment {
  readonly tenantId: string;
  readonly ready: boolean;
  readonly findings: readonly Finding[];
  /** The drain point of this look; null where it was not reached. */
  readonly lsn: string | null;
}

/**
 * Looks at everything that a switch of the tenant depends on, and records the answer with its evidence. `everyTenant`:
 * ids of all that there are, which need their shards together.
 */
export async function assess(config: Config, platform: Platform, tenantId: string, everyTenant: readonly string[], log: Logger, signal: AbortSignal): Promise<Assessment> {
  const { control } = platform.state;
  await control.refresh();
  const elastic = await readTenantIndices(platform.client, tenantId, everyTenant, templateSettings(config), new Date());
  const drained = await drainFinding(config, platform, log, signal);
  const validation = drained.lsn === null ? null : await compare(config, platform, tenantId, log, signal);
  const findings = [
    backfillFinding(tenantId, allRuns(control), allRequired(control)),
    await slotFindingOf(config),
    drained.finding,
    lettersFinding((await countLetters(platform, [tenantId])).get(tenantId)!),
    validationFinding(validation?.verdict ?? null, validation ?? NOTHING, tenantId),
    mappingFinding(elastic.wrongMapping, elastic.templates),
    shardsFinding(elastic.shards),
    refreshFinding(elastic.slow, elastic.comingSlow, elastic.relaxed),
  ];
  const assessment = { tenantId, ready: isReady(findings), findings, lsn: drained.lsn && formatLsn(drained.lsn) };
  await record(platform, assessment);
  return assessment;
}

async function record({ state: { control } }: Platform, { tenantId, ready, findings, lsn }: Assessment): Promise<void> {
  const key = stateKeys.ready(tenantId);
  if (ready && lsn !== null) {
    const evidence = findings.map(({ subject, message }) => ({ subject, message }));
    await control.put(key, { tenantId, at: new Date().toISOString(), lsn, evidence } satisfies ReadyRecord);
  } else if (control.get(key) !== undefined) await control.remove(key);
}

async function drainFinding(config: Config, platform: Platform, log: Logger, signal: AbortSignal): Promise<{ finding: Finding; lsn: Lsn | null }> {
  const drainer = await openDrainer(config, platform, log, signal);
  try {
    const { lsn } = await drainer.drain();
    return { finding: ok('lag', `drained to ${formatLsn(lsn)}`), lsn };
  } catch (error) {
    if (!(error instanceof DifyEsError) || !['NOT_DRAINED', 'PG_SLOT_MISSING', 'PG_SLOT_LOST'].includes(error.code)) throw error;
    return { finding: fail('lag', error.message, error.cure), lsn: null };
  } finally {
    await drainer.close();
  }
}

async function slotFindingOf(config: Config): Promise<Finding> {
  const db = await connect(pgTarget(config), { role: 'cutover', statementTimeoutMs: 30_000 });
  try {
    return slotFinding(await inspectSlot(db, config.postgres.slot), config.postgres.slot);
  } finally {
    await db.end().catch(() => undefined);
  }
}

/** Reads the topic once: a letter is a tenant's when its key says so. One without a key may be anybody's, so each has it. */
export async function countLetters({ kafka, names, state: { control } }: Platform, tenantIds: readonly string[]): Promise<ReadonlyMap<string, LetterCounts>> {
  const own = new Map(tenantIds.map((tenantId) => [tenantId, { open: 0, accepted: 0 }]));
  let unattributed = 0;
  const letters = await openDeadLetters(kafka, names, control);
  try {
    for await (const slice of letters.letters()) {
      for (const { key, state } of slice) {
        if (state === 'redriven') continue;
        const counts = key && own.get(key.tenantId);
        if (counts) counts[state]++;
        else if (key === null && state === 'open') unattributed++;
      }
    }
  } finally {
    await letters.close();
  }
  return new Map([...own].map(([tenantId, counts]) => [tenantId, { ...counts, unattributed }]));
}

export interface Comparison {
  readonly verdict: ValidationVerdict;
  readonly rows: number;
  readonly documents: number;
  readonly differences: number;
  /** Documents that Dify itself wrote: they are in Elasticsearch alone. */
  readonly difyOwn: number;
}

const NOTHING: Omit<Comparison, 'verdict'> = { rows: 0, documents: 0, differences: 0, difyOwn: 0 };

/** Every row and document of the tenant, whether it was switched or not. */
export async function compare(config: Config, platform: Platform, tenantId: string, log: Logger, signal: AbortSignal): Promise<Comparison> {
  const { validation } = await runValidate(config, platform, { request: { tables: TABLES, tenantIds: [tenantId], sample: 'full' }, repair: 'no', regardlessOfSwitch: tenantId, signal }, log);
  const { tally, rewritten, notDrained } = validation;
  const totals = tally.totals();
  return {
    verdict: verdictOf(totals, tally.inFlight, rewritten, notDrained),
    rows: totals.rows, documents: totals.documents, difyOwn: tally.apart['dify-own'],
    differences: DIFFERENCE_CLASSES.reduce((sum, kind) => sum + totals[kind], 0),
  };
}
