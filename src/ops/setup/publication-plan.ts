import type { TableName } from '../../core/contracts.ts';
import type { PublicationState } from './source-state.ts';
import { addToPublication, commentPublication, createPublication, publishEverything } from './sql.ts';

export interface PublicationPlan {
  readonly statements: readonly string[];
  /** Tables whose changes were not published until now: what changed before is in no record. */
  readonly added: readonly TableName[];
  readonly did: string;
}

/**
 * What is left to do for the publication to carry all four operations of all `tables`. A table with a row filter or a
 * column list is left to its owner: see unfitPublication.
 */
export function publicationPlan(publication: string, schema: string, tables: readonly TableName[], state: PublicationState | null): PublicationPlan {
  if (!state) {
    return { statements: [createPublication(publication, schema, tables), commentPublication(publication)], added: tables, did: `created with ${tables.length} tables` };
  }
  const added = state.allTables ? [] : tables.filter((table) => !state.tables.has(table));
  const statements: string[] = [];
  const did: string[] = [];
  if (!state.everyOperation) {
    statements.push(publishEverything(publication));
    did.push('publishes all operations now');
  }
  if (added.length > 0) {
    statements.push(addToPublication(publication, schema, added));
    did.push(`${added.join(', ')} added`);
  }
  if (state.comment === null && state.owned) statements.push(commentPublication(publication));
  return { statements, added: state.everyOperation ? added : tables, did: did.join('; ') };
}

/** Why this publication cannot be used, one line each; empty when it can. */
export function unfitPublication(publication: string, state: PublicationState | null): string[] {
  const limited = [...(state?.tables ?? [])].filter(([, { limited: is }]) => is).map(([table]) => table);
  if (limited.length === 0) return [];
  return [`publication ${publication} has a row filter or a column list on ${limited.join(', ')}: changes would be missing. Take them out of it (ALTER PUBLICATION … DROP TABLE …) and run setup again`];
}
