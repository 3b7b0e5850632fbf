import { setTimeout as sleep } from 'node:timers/promises';
import { requireEnabled } from '../config/config.ts';
import { dropExpired, retentionPlan, type RetentionOptions } from '../ops/retention/retention.ts';
import { openPlatform } from '../run/platform.ts';
import { confirm } from './confirm.ts';
import { tenantIds, wholeNumber } from './flags.ts';
import { formatCount } from './format.ts';
import { defineVerb, type Answer, type VerbContext } from './verb.ts';

interface RetentionFlags {
  readonly tenantIds: readonly string[];
  readonly days: number | undefined;
  readonly dryRun: boolean;
  readonly yes: boolean;
  readonly everyMs: number | null;
}

/** A timer counts milliseconds in 31 bits, and one that is set for longer fires at once. */
const LONGEST_MS = 24 * 86_400_000;
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
    const { config, log, signal } = context;
    if (!flags.dryRun) requireEnabled(config);
    const platform = await openPlatform(config, log);
    const options: RetentionOptions = {
      client: platform.client, control: platform.state.control, prefix: config.elasticsearch.indexPrefix,
      tenantIds: flags.tenantIds, days: flags.days ?? config.elasticsearch.retentionDays, signal,
    };
    try {
      for (;;) {
        const answer = await once(context, options, flags);
        if (flags.everyMs === null || signal.aborted) return answer;
        await sleep(flags.everyMs, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) return 0;
      }
    } finally {
      await platform.close();
    }
  },
});

async function once({ out, log, signal }: VerbContext, options: RetentionOptions, { dryRun, yes }: RetentionFlags): Promise<Answer> {
  const plan = await retentionPlan(options);
  const indices = plan.indices.map(({ name, documents }) => ({ name, documents }));
  const sum = indices.reduce((total, { documents }) => total + documents, 0);
  if (indices.length === 0) {
    out.line(`no index has a whole month older than ${options.days} days`);
    out.result({ dropped: 0, indices, boundaries: [] });
    return 0;
  }
  out.table(['index', 'documents'], indices.map(({ name, documents }) => [name, formatCount(documents)]));
  out.line(`${formatCount(indices.length)} indices with ${formatCount(sum)} documents, of whole months older than ${options.days} days`);
  if (dryRun) {
    out.result({ dropped: 0, indices, boundaries: plan.boundaries });
    return 0;
  }
  if (!yes && !(await confirm('They are deleted for good.', signal))) {
    out.line('nothing was dropped: say --yes, or answer yes on a terminal');
    out.result({ dropped: 0, indices, boundaries: [] });
    return 1;
  }
  const dropped = await dropExpired(options, plan, (index) => log.info({ index }, 'dropped'));
  out.line(`${formatCount(dropped)} indices dropped; late changes of those months are counted as expired from now on`);
  out.result({ dropped, indices, boundaries: plan.boundaries });
  return 0;
}
