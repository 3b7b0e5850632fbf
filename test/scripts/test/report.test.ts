import { describe, expect, it } from 'vitest';
import { countsOf, failuresOf, sum } from '../../../scripts/test/report.ts';

describe('the counts of a run', () => {
  const passing = { name: '/checkout/test/passing.test.ts', status: 'passed', assertionResults: [{ status: 'passed', fullName: 'passes' }] };
  const failing = { name: '/checkout/test/failing.test.ts', status: 'failed', assertionResults: [{ status: 'failed', fullName: 'a thing works', failureMessages: ['Error: it does not\n    at here'] }] };
  const broken = { name: '/checkout/test/broken.test.ts', status: 'failed', message: 'Cannot find module', assertionResults: [] };

  it('are those of the report', () => {
    expect(countsOf({ numPassedTests: 3, numFailedTests: 1, testResults: [failing] }, 1)).toEqual({ passed: 3, failed: 1 });
  });

  it('count a file that could not be loaded as a failure', () => {
    expect(countsOf({ numPassedTests: 1, numFailedTests: 0, testResults: [passing, broken] }, 1)).toEqual({ passed: 1, failed: 1 });
  });

  it('never are without a failure when vitest failed', () => {
    expect(countsOf({ numPassedTests: 1, numFailedTests: 0, testResults: [passing] }, 1)).toEqual({ passed: 1, failed: 1 });
    expect(countsOf(undefined, 137)).toEqual({ passed: 0, failed: 1 });
  });

  it('come with what failed and what it said', () => {
    expect(failuresOf({ numPassedTests: 1, numFailedTests: 1, testResults: [passing, failing, broken] }, '/checkout')).toEqual([
      'test/failing.test.ts > a thing works\n    Error: it does not',
      'test/broken.test.ts\n    Cannot find module',
    ]);
    expect(failuresOf(undefined, '/checkout')).toEqual([]);
  });

  it('add up over the tiers', () => {
    expect(sum([{ passed: 1, failed: 0 }, { passed: 2, failed: 3 }])).toEqual({ passed: 3, failed: 3 });
  });
});
