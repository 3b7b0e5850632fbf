import { expect, it } from 'vitest';
import { indicesToSearch } from '../../../src/ops/search/query.ts';

const TENANT = '11111111-2222-4333-8444-555555555555';
const name = (month: string, prefix = 'dify'): string => `${prefix}-workflow-runs-${TENANT}-${month}`;
const all = ['2025.09', '2025.10', '2025.11'].map((month) => name(month));

it('searches the months of the dates alone, the newest first', () => {
  expect(indicesToSearch('dify', 'workflow_runs', all, { from: null, before: null })).toEqual([...all].reverse());
  expect(indicesToSearch('dify', 'workflow_runs', all, { from: '2025-10-31 00:00:00', before: null })).toEqual([name('2025.11'), name('2025.10')]);
  expect(indicesToSearch('dify', 'workflow_runs', all, { from: null, before: '2025-10-02 00:00:00' })).toEqual([name('2025.10'), name('2025.09')]);
});

it('does not take a month in of which only the first midnight is the end that is not included', () => {
  expect(indicesToSearch('dify', 'workflow_runs', all, { from: '2025-10-01 00:00:00', before: '2025-11-01 00:00:00' })).toEqual([name('2025.10')]);
});

it('searches no index of another prefix or table, and none that a person made', () => {
  const foreign = [name('2025.10', 'dify-test'), name('2025.10', 'other'), `dify-workflow-node-executions-${TENANT}-2025.10`, `${name('2025.10')}-copy`, 'dify-workflow-runs-a-b-c-d-e-2025.10'];
  expect(indicesToSearch('dify', 'workflow_runs', foreign, { from: null, before: null })).toEqual([]);
});
