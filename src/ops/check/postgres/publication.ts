import type { TableName } from '../../../core/contracts.ts';
import { unfitPublication } from '../../setup/publication-plan.ts';
import type { PublicationState } from '../../setup/source-state.ts';
import { fail, ok, warn, type Finding } from '../finding.ts';

const SUBJECT = 'publication';

export function publicationFindings(name: string, state: PublicationState | null, tables: readonly TableName[], isSetUp: boolean): Finding[] {
  if (!state) return [(isSetUp ? fail : warn)(SUBJECT, `there is no publication ${name}`, 'Run dify-es setup.')];
  const findings = unfitPublication(name, state).map((line) => fail(SUBJECT, line, 'ALTER PUBLICATION … DROP TABLE …, then dify-es setup.'));
  const absent = state.allTables ? [] : tables.filter((table) => !state.tables.has(table));
  if (absent.length > 0) findings.push(fail(SUBJECT, `${name} lacks ${absent.join(', ')}: their changes never arrive`, 'Run dify-es setup, and then migrate for these tables.'));
  if (!state.everyOperation) findings.push(fail(SUBJECT, `${name} does not publish insert, update, delete and truncate`, 'Run dify-es setup, and then a full migrate.'));
  const more = state.allTables ? 'all tables of the database' : state.foreign.length > 0 ? state.foreign.join(', ') : '';
  if (more) findings.push(warn(SUBJECT, `${name} also holds ${more}: the reader throws their changes away`, 'Use a publication of its own (CDC_PUBLICATION).'));
  return findings.length > 0 ? findings : [ok(SUBJECT, `${name} with ${tables.length} tables`)];
}
