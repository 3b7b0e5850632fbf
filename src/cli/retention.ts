import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { requireEnabled } from '../config/config.ts';
import { DifyEsError } from '../core/errors.ts';
import type { RetentionRecord } from '../core/state.ts';
import { dropExpired, retentionPlan, type RetentionOptions } from '../ops/retention/retention.ts';
import { openPlatform } from '../run/platform.ts';
import { confirm } from './confirm.ts';
import { tenantIds, wholeNumber } from './flags.ts';
import { formatCount } from './format.ts';
import { defineVerb, type VerbContext } from './verb.ts';

interface RetentionFlags {
  readonly tenantIds: readonly string[];
  readonly days: number | undefined;
  readonly dryRun: boolean;
  readonly yes: boolean;
  readonly everyMs: number | null;
}

/** A timer counts milliseconds in 31 bits, and one that is set for longer fires at once. */
const LONGEST_MS = 24 * 86_400_000;
const AWAY_MS = 60_000;
const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

export const retention = defineVerb<RetentionFlags>({
  name: 'retention',
  summary: 'drops indices whose whole month is older than N days, and keeps those months from coming back',
  writes: false,
  declare: (command) =>
    command
      .option('--tenant-id <uuid...>', 'only these tenants, comma separated')
      .option('--days <n>', 'instead of ELASTICSEARCH_RETENTION_DAYS')
      .option('--dry-run', 'show what would be dropped')
      .option('--yes', 'drop without asking')
      .option('--every <time>', 'keep doing it, for example 24h; needs --yes'),
  read(flags, faults) {
    const every = /^([1-9]\d{0,4})([mhd])$/.exec(String(flags['every'] ?? ''));
    const everyMs = every ? Number(every[1]) * UNITS[every[2]!]! : null;
    if (flags['every'] !== undefined && (everyMs === null || everyMs > LONGEST_MS)) faults.push(`--every ${JSON.stringify(flags['every'])} is no time like 24h, from 1m to 24d`);
    if (flags['every'] !== undefined && flags['yes'] !== true) faults.push('--every needs --yes, since nobody is there to be asked');
    if (flags['dryRun'] === true && flags['every'] !== undefined) faults.push('--dry-run and --every exclude each other');
    return {
      tenantIds: tenantIds(flags, faults),
      days: wholeNumber(flags, faults, 'days', '--days', 1, 100_000),
      dryRun: flags['dryRun'] === true,
      yes: flags['yes'] === true,
      everyMs,
    };
  },
  async run(context, flags) {
    const { config, out, log, signal } = context;
    if (!flags.dryRun) requireEnabled(config);
    const platform = await openPlatform(config, log);
    const options: RetentionOptions = {
      client: platform.client, control: platform.state.control, prefix: config.elasticsearch.indexPrefix,
      tenantIds: flags.tenantIds, days: flags.days ?? config.elasticsearch.retentionDays, signal,
    };
    try {
      let last = await once(context, options, flags);
      let { dropped } = last;
      let rounds = 1;
      for (let waitMs = flags.everyMs; waitMs !== null; ) {
        await sleep(waitMs, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) break;
        const next = await orAway(once(context, options, flags), log);
        waitMs = next ? flags.everyMs : Math.min(flags.everyMs ?? AWAY_MS, AWAY_MS);
        if (!next) continue;
        [last, dropped, rounds] = [next, dropped + next.dropped, rounds + 1];
      }
      out.result({ dropped, indices: last.indices, boundaries: last.boundaries, rounds });
      return last.refused ? 1 : 0;
    } catch (error) {
      // between two rounds there is nothing to go on with
      if (signal.aborted && flags.everyMs !== null) return 0;
      throw error;
    } finally {
      await platform.close();
    }
  },
});

interface Round {
  readonly dropped: number;
  readonly indices: readonly { readonly name: string; readonly documents: number | null }[];
  readonly boundaries: readonly RetentionRecord[];
  /** Nobody said yes. */
  readonly refused: boolean;
}

/** Undefined when a server is away, which is said: it was there at the start, so it is waited for. */
async function orAway(round: Promise<Round>, log: Logger): Promise<Round | undefined> {
  try {
    return await round;
  } catch (error) {
    if (!(error instanceof DifyEsError) || error.exitCode !== 3) throw error;
    log.warn({ code: error.code, reason: error.message }, 'a server is away; this round is tried again');
    return undefined;
  }
}

async function once({ out, log, signal }: VerbContext, options: RetentionOptions, { dryRun, yes }: RetentionFlags): Promise<Round> {
  const plan = await retentionPlan(options);
  const indices = plan.indices.map(({ name, documents, closed }) => ({ name, documents: closed ? null : documents }));
  const sum = plan.indices.reduce((total, { documents }) => total + documents, 0);
  const closed = plan.indices.filter((index) => index.closed).length;
  if (indices.length === 0) {
    out.line(`no index has a whole month older than ${options.days} days`);
    return { dropped: 0, indices, boundaries: [], refused: false };
  }
  out.table(['index', 'documents'], indices.map(({ name, documents }) => [name, documents === null ? 'closed' : formatCount(documents)]));
  out.line(`${formatCount(indices.length)} indices with ${formatCount(sum)} documents${closed > 0 ? `, and what is in the ${formatCount(closed)} closed ones` : ''}, of whole months older than ${options.days} days`);
  if (dryRun) return { dropped: 0, indices, boundaries: plan.boundaries, refused: false };
  // under --json nothing was shown, so nobody can be asked
  if (!yes && (out.json || !(await confirm('They are deleted for good.', signal)))) {
    out.line('nothing was dropped: say --yes, or answer yes on a terminal');
    return { dropped: 0, indices, boundaries: [], refused: true };
  }
  const dropped = await dropExpired(options, plan, (index) => log.info({ index }, 'dropped'));
  out.line(`${formatCount(dropped)} indices dropped; late changes of those months are counted as expired from now on`);
  return { dropped, indices, boundaries: plan.boundaries, refused: false };
}
