import { identitySteps } from '../../setup/identity-plan.ts';
import type { SourceState } from '../../setup/fitness.ts';
import { missingRights, type SourceNames } from '../../setup/fitness.ts';
import { fail, ok, warn, type Finding } from '../finding.ts';

const CURE = 'Run dify-es setup --print-sql and have a superuser run what it prints.';

/** Rights for what is still to be done, and for reading; a role that owns nothing is fine once a superuser ran the SQL. */
export function rightsFindings(state: SourceState, names: SourceNames): Finding[] {
  const { server, tables } = state;
  const missing = missingRights(state, names);
  const findings = missing.map((line) => fail('rights', line, CURE));
  if (missing.length === 0) {
    const owner = tables.every(({ owned }) => owned) ? 'owns the tables' : tables.some((table) => identitySteps(table).length > 0) ? '' : 'owns nothing and needs to own nothing more';
    findings.push(ok('rights', [`${server.role} may read the tables and replicate`, owner].filter(Boolean).join(', ')));
  }
  if (!server.seesOtherSessions) findings.push(warn('pg_read_all_stats', `${server.role} does not see other sessions, so nobody can be named who blocks the barrier or setup`, CURE));
  return findings;
}
