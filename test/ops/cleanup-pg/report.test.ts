import { expect, it } from 'vitest';
import { emptyCounts, printCleanup, type Stayed } from '../../../src/ops/cleanup-pg/report.ts';

function printed(switched: boolean, stayed: Partial<Record<Stayed, number>>): string {
  const lines: string[] = [];
  const counts = emptyCounts('workflow_runs');
  Object.assign(counts.stayed, stayed);
  printCleanup({ runId: 'r', tenantId: 'T', before: '2025-01-01', dryRun: false, switched, tables: [counts] }, { line: (text = '') => void lines.push(text), table: () => undefined });
  return lines.join('\n');
}

it('advises a repair for rows that one would send, and none for a switched tenant, whose rows nothing sends', () => {
  for (const why of ['missing', 'different'] as const) {
    expect(printed(false, { [why]: 1 })).toContain('`dify-es validate --repair`');
    expect(printed(true, { [why]: 1 })).not.toContain('--repair');
    expect(printed(true, { [why]: 1 })).toMatch(/Elasticsearch is the truth of this tenant.*by hand/);
  }
  expect(printed(true, { changed: 1 })).not.toContain('truth');
});
