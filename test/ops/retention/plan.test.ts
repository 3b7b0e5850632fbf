import { describe, expect, it } from 'vitest';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import { oldestKeptMonth, planRetention } from '../../../src/ops/retention/plan.ts';
import type { IndexInfo } from '../../../src/ops/validate/documents.ts';

const A = '11111111-1111-4111-8111-111111111111';
const B = '22222222-2222-4222-8222-222222222222';
const index = (tenantId: string, month: string): IndexInfo => ({ name: `dify-workflow-runs-${tenantId}-${month}`, documents: 3, closed: false, parts: { connector: CONNECTORS.workflow_runs, tenantId, month } });
const NOW = new Date('2025-11-23T08:00:00Z');

describe('a retention plan', () => {
  it('drops whole months older than the days, and no other', () => {
    const plan = planRetention([index(A, '2025.09'), index(A, '2025.10'), index(A, '2025.11')], new Map(), NOW, 30);
    expect(plan.indices.map(({ name }) => name)).toEqual([`dify-workflow-runs-${A}-2025.09`]);
  });

  it('sets one boundary for each tenant that loses an index, at its newest dropped month', () => {
    const plan = planRetention([index(A, '2025.07'), index(A, '2025.09'), index(B, '2025.08'), index(B, '2025.11')], new Map(), NOW, 30);
    expect(plan.boundaries.map(({ tenantId, throughMonth }) => [tenantId, throughMonth])).toEqual([[A, '2025.09'], [B, '2025.08']]);
  });

  it('never moves a boundary back', () => {
    const known = new Map([[A, { tenantId: A, throughMonth: '2025.09', at: '' }]]);
    const plan = planRetention([index(A, '2025.08')], known, NOW, 30);
    expect(plan.boundaries).toEqual([]);
    expect(plan.indices).toHaveLength(1);
  });
});

describe('the oldest kept month', () => {
  it.each([
    ['2025-11-23T00:00:00Z', 30, '2025.10'],
    ['2025-11-01T00:00:00Z', 1, '2025.10'],
    ['2025-03-15T12:00:00Z', 14, '2025.03'],
    ['2026-01-01T00:00:00Z', 366, '2024.12'],
  ])('at %s with %d days is %s', (now, days, month) => {
    expect(oldestKeptMonth(new Date(now), days)).toBe(month);
  });
});
