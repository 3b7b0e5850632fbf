import type { Logger } from 'pino';
import { describeStep, type StepReport } from '../ops/setup/step.ts';
import type { Output } from './output.ts';

/** Prints each step of setup or teardown as it is done, and keeps it for --json. */
export function stepPrinter(out: Output): { readonly steps: readonly StepReport[]; readonly report: (step: StepReport) => void } {
  const steps: StepReport[] = [];
  return {
    steps,
    report: (step) => {
      steps.push(step);
      out.line(describeStep(step));
    },
  };
}

/** `--print-sql`: the statements on standard output, what is to be known about them on standard error. */
export function printSqlText(out: Output, log: Logger, { sql, note }: { readonly sql: string; readonly note: string | null }): void {
  if (note !== null) log.warn(note);
  out.line(sql.trimEnd());
  out.result({ sql });
}
