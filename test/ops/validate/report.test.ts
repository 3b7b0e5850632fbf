import { describe, expect, it } from 'vitest';
import { DifyEsError } from '../../../src/core/errors.ts';
import { printReport, reportOf } from '../../../src/ops/validate/report.ts';
import { Tally, type Difference } from '../../../src/ops/validate/tally.ts';
import type { Validation } from '../../../src/ops/validate/validate.ts';

const difference = (more: Partial<Difference> = {}): Difference => ({ class: 'missing', table: 'workflow_runs', tenantId: 't', month: '2026.01', id: 'i', index: 'x', ...more });

function report(tally: Tally, more: Partial<Validation> = {}) {
  return reportOf({ tally, tables: ['workflow_runs'], rewritten: [], notDrained: null, repair: null, ...more }, { sample: 'full', reconciled: [], seconds: 1 });
}

describe('the report of a validation', () => {
  it('counts everything and lists the first', () => {
    const tally = new Tally(3);
    for (let i = 0; i < 10; i++) tally.difference(difference({ id: String(i) }));
    tally.row('workflow_runs', 't', '2026.01');
    const found = report(tally);
    expect(found.totals).toMatchObject({ missing: 10, rows: 1 });
    expect(found.differences).toHaveLength(3);
    expect(found.groups).toEqual([{ table: 'workflow_runs', tenantId: 't', month: '2026.01', rows: 1, documents: 0, missing: 10, stale: 0, extra: 0, 'wrong-index': 0 }]);
  });

  it('says equal only when everything was looked at in rest', () => {
    expect(report(new Tally()).verdict).toBe('equal');
    const moving = new Tally();
    moving.inFlight = 1;
    expect(report(moving).verdict).toBe('unsettled');
    expect(report(new Tally(), { rewritten: ['workflow_runs'] }).verdict).toBe('unsettled');
    expect(report(new Tally(), { notDrained: new DifyEsError('NOT_DRAINED', 'x') }).verdict).toBe('unsettled');
    for (const kind of ['missing', 'stale', 'extra', 'wrong-index'] as const) {
      const tally = new Tally();
      tally.difference(difference({ class: kind }));
      expect(report(tally).verdict).toBe('different');
    }
  });

  it('is printed with a line for each difference and each reason', () => {
    const tally = new Tally();
    tally.difference(difference());
    tally.difference(difference({ class: 'stale', fields: ['status', 'outputs'] }));
    tally.difference(difference({ class: 'extra' }));
    tally.difference(difference({ class: 'wrong-index', belongsIn: 'y', missingThere: true }));
    tally.apart.archived = 4;
    const lines: string[] = [];
    const heads: (readonly string[])[] = [];
    printReport(report(tally, { repair: { rowsPublished: 2, tombstonesPublished: 0, proven: 1, leftAlone: 2 } }), { line: (text = '') => void lines.push(text), table: (head) => void heads.push(head) });
    expect(lines).toEqual([
      'missing: workflow_runs i is not in x',
      'stale: workflow_runs i in x differs in status, outputs',
      'extra: workflow_runs i in x has no row',
      'wrong-index: workflow_runs i is in x and belongs in y, where it is missing',
      'why one is missing: `dify-es trace TABLE ID`; dead letters that are open are in `dify-es dlq list`',
      '4 documents whose rows cleanup-pg moved out of PostgreSQL: not compared',
      'repair: 2 rows sent again, 0 documents deleted, 1 found equal afterwards; 2 surplus documents were left alone (--delete-extra deletes them)',
      'different: 0 rows and 0 documents compared in 1.0 s',
    ]);
    expect(heads).toHaveLength(1);
  });

  it('says that nothing was compared, which is no proof: a typing error in a tenant looks like that', () => {
    const lines: string[] = [];
    printReport(report(new Tally()), { line: (text = '') => void lines.push(text), table: () => {} });
    expect(lines[0]).toMatch(/^NOTHING WAS COMPARED/);
  });
});
