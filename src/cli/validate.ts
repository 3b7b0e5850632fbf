import { requireEnabled } from '../config/config.ts';
import { DifyEsError } from '../core/errors.ts';
import { printReport, reportOf } from '../ops/validate/report.ts';
import type { ValidateRequest } from '../ops/validate/validate.ts';
import { openPlatform } from '../run/platform.ts';
import { runValidate, type ValidateOptions } from '../run/validate.ts';
import { tables, tenantIds, wholeNumber } from './flags.ts';
import { createProgress } from './progress.ts';
import { defineVerb } from './verb.ts';

interface ValidateFlags {
  readonly request: ValidateRequest;
  readonly repair: ValidateOptions['repair'];
}

/** Rows and as many documents, where neither --full nor --sample-size is given. */
const SAMPLE = 1000;
/** The ids of a sample are drawn into memory, of rows and of documents. Beyond it comparing everything, which is not, costs little more. */
const LARGEST_SAMPLE = 100_000;

export const validate = defineVerb<ValidateFlags>({
  name: 'validate',
  summary: 'compares both ends field by field; --repair sends again what is missing or stale',
  writes: false,
  declare: (command) =>
    command
      .option('--tenant-id <uuid...>', 'only these tenants, comma separated')
      .option('--data-type <names...>', 'only workflow_runs, app_logs, node_executions, offload')
      .option('--sample-size <n>', `rows, and as many documents, drawn at random (default ${SAMPLE}, up to ${LARGEST_SAMPLE}; beyond that --full)`)
      .option('--full', 'every row and every document')
      .option('--repair', 'send missing and stale rows again; deletes nothing')
      .option('--delete-extra', 'with --repair: delete documents of no row, unless a policy, an archive or Dify keeps them'),
  read(flags, faults) {
    const size = wholeNumber(flags, faults, 'sampleSize', '--sample-size', 1, LARGEST_SAMPLE, 'use --full for more');
    const [full, repair, deleteExtra] = [flags['full'] === true, flags['repair'] === true, flags['deleteExtra'] === true];
    if (full && size !== undefined) faults.push('--full and --sample-size exclude each other');
    if (deleteExtra && !repair) faults.push('--delete-extra goes with --repair');
    return {
      request: { tables: tables(flags, faults), tenantIds: tenantIds(flags, faults), sample: full ? 'full' : (size ?? SAMPLE) },
      repair: deleteExtra ? 'rows-and-extra' : repair ? 'rows' : 'no',
    };
  },
  async run({ config, out, log, signal }, { request, repair }) {
    if (repair !== 'no') requireEnabled(config);
    const platform = await openPlatform(config, log);
    const view = createProgress(out.json);
    const began = performance.now();
    try {
      const { validation, reconciled } = await runValidate(config, platform, {
        request, repair, signal,
        onProgress: ({ table, phase, done, total, count }) => view.show({ name: `${table} ${phase}`, done, total, rows: count, bytes: 0 }),
      }, log).finally(() => view.end());
      const report = reportOf(validation, { sample: request.sample, reconciled, seconds: (performance.now() - began) / 1000 });
      printReport(report, out);
      out.result(report);
      return report.verdict === 'equal' ? 0 : 1;
    } catch (error) {
      if (signal.aborted) throw new DifyEsError('STOPPED', 'stopped before everything was compared');
      throw error;
    } finally {
      await platform.close();
    }
  },
});
