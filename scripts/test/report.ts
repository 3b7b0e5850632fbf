import { relative } from 'node:path';

export interface Counts {
  readonly passed: number;
  readonly failed: number;
}

/** The part of vitest's JSON report (jest's format) that is read here. */
export interface JsonReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly FileReport[];
}

interface FileReport {
  /** Its path, absolute. */
  readonly name: string;
  readonly status: string;
  readonly message?: string;
  readonly assertionResults: readonly { readonly status: string; readonly fullName: string; readonly failureMessages?: readonly string[] }[];
}

/**
 * Counts of one tier. What fails without a failing test counts as one failure: a file that cannot be loaded, a hook,
 * an error outside of all tests, a vitest that ended without a report.
 */
export function countsOf(report: JsonReport | undefined, exitCode: number): Counts {
  const passed = report?.numPassedTests ?? 0;
  const brokenFiles = report?.testResults.filter(isBroken).length ?? 0;
  const failed = (report?.numFailedTests ?? 0) + brokenFiles;
  return { passed, failed: failed === 0 && exitCode !== 0 ? 1 : failed };
}

/** A line for each failure, and one for what it says. They end the output of a run of half an hour, of which the rest may be cut off. */
export function failuresOf(report: JsonReport | undefined, folder: string): string[] {
  return (report?.testResults ?? []).flatMap((file) => {
    const path = relative(folder, file.name);
    const failed = file.assertionResults.filter(({ status }) => status === 'failed').map(({ fullName, failureMessages }) => failure(`${path} > ${fullName}`, failureMessages?.[0]));
    return isBroken(file) ? [failure(path, file.message)] : failed;
  });
}

function failure(of: string, message = 'without a message'): string {
  return `${of}\n    ${message.split('\n', 1)[0]!.slice(0, 400)}`;
}

function isBroken(file: FileReport): boolean {
  return file.status === 'failed' && !file.assertionResults.some(({ status }) => status === 'failed');
}

export function sum(all: readonly Counts[]): Counts {
  return { passed: all.reduce((total, one) => total + one.passed, 0), failed: all.reduce((total, one) => total + one.failed, 0) };
}
