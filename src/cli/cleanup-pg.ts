import { requireEnabled } from '../config/config.ts';
import { DifyEsError } from '../core/errors.ts';
import { stateKeys } from '../core/state.ts';
import type { Scope } from '../ops/cleanup-pg/candidates.ts';
import type { CleanupPace } from '../ops/cleanup-pg/cleanup.ts';
import { cleanupWarnings, printCleanup } from '../ops/cleanup-pg/report.ts';
import { replicasOf, runCleanup } from '../ops/cleanup-pg/run.ts';
import { openPlatform } from '../run/platform.ts';
import { startOfDay, tenantIds, wholeNumber } from './flags.ts';
import { defineVerb } from './verb.ts';

interface CleanupFlags {
  readonly scope: Scope;
  readonly pace: CleanupPace;
  readonly dryRun: boolean;
  readonly force: boolean;
}

const BATCH = 500;
const PAUSE_MS = 100;
const SAY_EVERY_MS = 5_000;

export const cleanupPg = defineVerb<CleanupFlags>({
  name: 'cleanup-pg',
  summary: 'deletes from PostgreSQL what Elasticsearch holds with equal content, and nothing else; documents stay',
  writes: false,
  declare: (command) =>
    command
      .option('--tenant-id <uuid>', 'the tenant whose rows go')
      .option('--before-date <date>', 'rows created before this day (UTC)')
      .option('--dry-run', 'compare and count; delete nothing')
      .option('--force', 'also where another installation publishes these tables: its Elasticsearch loses the documents')
      .option('--batch-size <n>', `rows of one transaction (default ${BATCH})`)
      .option('--pause <ms>', `pause after each batch (default ${PAUSE_MS})`),
  read(flags, faults) {
    const tenants = tenantIds(flags, faults);
    if (flags['tenantId'] === undefined) faults.push('--tenant-id is missing');
    if (tenants.length > 1) faults.push('--tenant-id takes one tenant');
    const before = startOfDay(flags, faults, 'beforeDate', '--before-date');
    if (flags['beforeDate'] === undefined) faults.push('--before-date is missing');
    // rows of today's runs are the ones that Dify still writes
    if (before !== null && Date.parse(`${before.replace(' ', 'T')}Z`) > Date.now()) faults.push(`--before-date ${JSON.stringify(flags['beforeDate'])} is in the future`);
    return {
      scope: { tenantId: tenants[0] ?? '', before: before ?? '' },
      pace: {
        batchSize: wholeNumber(flags, faults, 'batchSize', '--batch-size', 1, 10_000) ?? BATCH,
        pauseMs: wholeNumber(flags, faults, 'pause', '--pause', 0, 600_000) ?? PAUSE_MS,
      },
      dryRun: flags['dryRun'] === true,
      force: flags['force'] === true,
    };
  },
  async run({ config, out, log, signal }, { scope, pace, dryRun, force }) {
    if (!dryRun) requireEnabled(config);
    const platform = await openPlatform(config, log);
    try {
      const warnings = cleanupWarnings({ switched: platform.state.control.get(stateKeys.switched(scope.tenantId)) !== undefined, ...(await replicasOf(config, platform, scope.tenantId)) });
      for (const warning of warnings) {
        out.line(`note: ${warning}`);
        // the document comes when the rows are gone
        if (out.json) log.warn(warning);
      }
      let said = performance.now();
      const report = await runCleanup(config, platform, {
        scope, pace, dryRun, force, signal,
        onProgress: ({ table, looked, deleted }) => {
          if (performance.now() - said < SAY_EVERY_MS) return;
          said = performance.now();
          log.info({ table, looked, deleted }, 'cleaning up');
        },
      }, log);
      printCleanup(report, out);
      out.result({ ...report, warnings });
      return 0;
    } catch (error) {
      if (signal.aborted) throw new DifyEsError('STOPPED', 'stopped between two batches; what was deleted is deleted');
      throw error;
    } finally {
      await platform.close();
    }
  },
});
