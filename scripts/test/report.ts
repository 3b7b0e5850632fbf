export interface Counts {
  readonly passed: number;
  readonly failed: number;
}

/** The part of vitest's JSON report (jest's format) that is read here. */
export interface JsonReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly { readonly status: string; readonly assertionResults: readonly { readonly status: string }[] }[];
}

/**
 * Counts of one tier. What fails without a failing test counts as one failure: a file that cannot be loaded, a hook,
 * an error outside of all tests, a vitest that ended without a report.
 */
export function countsOf(report: JsonReport | undefined, exitCode: number): Counts {
  const passed = report?.numPassedTests ?? 0;
  const brokenFiles = report?.testResults.filter((file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed')).length ?? 0;
  const failed = (report?.numFailedTests ?? 0) + brokenFiles;
  return { passed, failed: failed === 0 && exitCode !== 0 ? 1 : failed };
}

export function sum(all: readonly Counts[]): Counts {
  return { passed: all.reduce((total, one) => total + one.passed, 0), failed: all.reduce((total, one) => total + one.failed, 0) };
}
