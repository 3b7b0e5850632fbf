import { requireEnabled } from '../config/config.ts';
import type { BackfillFilter } from '../core/state.ts';
import { abandonRuns } from '../pipeline/backfill/backfill.ts';
import { describeBlocker } from '../pipeline/backfill/barrier.ts';
import { runMigrate } from '../run/migrate.ts';
import { openPlatform } from '../run/platform.ts';
import { startOfDay, startOfNextDay, tables, tenantIds, wholeNumber } from './flags.ts';
import { formatCount } from './format.ts';
import { estimate } from '../ops/estimate/estimate.ts';
import { fits } from '../ops/estimate/forecast.ts';
import { withTelemetry } from '../ops/telemetry/telemetry.ts';
import { printEstimate } from './dry-run-report.ts';
import { createProgress } from './progress.ts';
import { defineVerb, type Answer, type VerbContext } from './verb.ts';

interface MigrateFlags {
  readonly filter: BackfillFilter;
  readonly workers: number | undefined;
  readonly batchRows: number | undefined;
  readonly rowsPerSecond: number;
  readonly abandon: boolean;
  readonly dryRun: boolean;
}

export const migrate = defineVerb<MigrateFlags>({
  name: 'migrate',
  summary: 'the backfill: reads what PostgreSQL holds now into Kafka; run it again to resume, or beside to share the work',
  writes: false,
  declare: (command) =>
    command
      .option('--tenant-id <uuid...>', 'only these tenants, comma separated')
      .option('--start-date <YYYY-MM-DD>', 'only rows created on this day (UTC) or later')
      .option('--end-date <YYYY-MM-DD>', 'only rows created on this day (UTC) or earlier')
      .option('--data-type <names...>', 'only workflow_runs, app_logs, node_executions, offload')
      .option('--batch-size <rows>', 'rows a chunk aims at')
      .option('--workers <n>', 'parallel readers')
      .option('--rate <rows>', 'at most so many rows a second, to spare PostgreSQL')
      .option('--dry-run', 'say what would be read and what it takes; writes nothing')
      .option('--abandon', 'give an open backfill up, so that one with other filters can begin'),
  read(flags, faults) {
    const filter: BackfillFilter = {
      tables: tables(flags, faults),
      tenantIds: tenantIds(flags, faults),
      from: startOfDay(flags, faults, 'startDate', '--start-date'),
      before: startOfNextDay(flags, faults, 'endDate', '--end-date'),
    };
    const [abandon, dryRun] = [flags['abandon'] === true, flags['dryRun'] === true];
    // whoever names a tenant beside it expects that the others go on
    const beside = ['tenantId', 'startDate', 'endDate', 'dataType', 'dryRun'].filter((name) => flags[name] !== undefined);
    if (abandon && beside.length > 0) faults.push('--abandon gives the open backfill up as a whole, and takes no filter and no --dry-run');
    if (filter.from !== null && filter.before !== null && filter.from >= filter.before) faults.push('--end-date is before --start-date');
    return {
      filter,
      workers: wholeNumber(flags, faults, 'workers', '--workers', 1, 64),
      batchRows: wholeNumber(flags, faults, 'batchSize', '--batch-size', 10, 100_000),
      rowsPerSecond: wholeNumber(flags, faults, 'rate', '--rate', 1, 10_000_000) ?? 0,
      abandon, dryRun,
    };
  },
  async run({ config, out, log, signal }, { filter, workers, batchRows, rowsPerSecond, abandon, dryRun }) {
    if (dryRun) return printDryRun({ config, out, signal }, filter);
    requireEnabled(config);
    const platform = await openPlatform(config, log);
    try {
      if (abandon) {
        const runIds = await abandonRuns(platform.state.control);
        out.line(runIds.length === 0 ? 'no backfill is open' : `given up: ${runIds.join(', ')}`);
        out.result({ abandoned: runIds });
        return 0;
      }
      const view = createProgress(out.json);
      const began = performance.now();
      const result = await withTelemetry(config, log, ['migrate'], (telemetry) => {
        telemetry.follow(platform);
        telemetry.working('migrate');
        return runMigrate(config, platform, {
          filter, rowsPerSecond, signal,
          workers: workers ?? config.program.workers,
          batchRows: batchRows ?? config.program.batchSize,
          onProgress(progress) {
            const { table, rows, bytes, blocksDone, blocks } = progress;
            telemetry.onBackfill(progress);
            view.show({ name: table, done: blocksDone, total: blocks, rows, bytes });
          },
          onBlocked: (blockers) => log.warn(`the barrier waits for ${blockers.map(describeBlocker).join(', ')}`),
        }, log);
      }).finally(() => view.end());
      const seconds = (performance.now() - began) / 1000;
      const rows = result.tables.reduce((sum, table) => sum + table.rows, 0);
      for (const { table, rows: count } of result.tables) out.line(`${table.padEnd(33)} ${formatCount(count)} rows`);
      for (const table of result.missing) out.line(`${table.padEnd(33)} not in this release of Dify`);
      out.line(result.state === 'done' ? `published ${formatCount(rows)} rows to Kafka in ${seconds.toFixed(1)} s (barrier ${result.barrierLsn})` : 'stopped; run migrate again to go on');
      if (result.ownRows < rows) out.line(`this process read ${formatCount(result.ownRows)} of them; the others were read before, or by other processes of the run`);
      for (const table of result.stillRequired) out.line(`BACKFILL REQUIRED is still recorded for ${table}: see status`);
      out.result({ ...result, seconds });
      return result.state === 'done' ? 0 : 1;
    } finally {
      await platform.close();
    }
  },
});

async function printDryRun({ config, out, signal }: Pick<VerbContext, 'config' | 'out' | 'signal'>, filter: BackfillFilter): Promise<Answer> {
  const view = createProgress(out.json);
  const found = await estimate(config, { filter, signal, onBlocks: (table, done, total) => view.show({ name: `${table} pages`, done, total, rows: done, bytes: 0 }) }).finally(() => view.end());
  printEstimate(found, out);
  out.result(found);
  return fits(found.forecast) ? 0 : 1;
}
