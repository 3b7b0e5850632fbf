import { CONNECTORS } from '../../connector/registry.ts';
import type { Row, TableName } from '../../core/contracts.ts';
import type { Documents } from '../validate/documents.ts';
import { differingFields } from '../validate/document-diff.ts';
import { expectationOfRow, type Boundaries } from '../validate/expectations.ts';
import type { SeenRow } from '../validate/verdict.ts';
import type { Stayed } from './report.ts';

export type Held = 'equal' | Extract<Stayed, 'missing' | 'different' | 'dead-lettered' | 'expired' | 'no-index'>;

export interface ComparePorts {
  readonly documents: Documents;
  /** As validation knows them. The truth of a switched tenant is compared like that of any other. */
  readonly known: Boundaries;
  readonly expectedText: (row: Row) => Buffer;
}

/** What Elasticsearch holds of each row now, in real time. Only `equal` is a reason to delete. */
export async function heldInElasticsearch({ documents, known, expectedText }: ComparePorts, table: TableName, rows: readonly SeenRow[]): Promise<Held[]> {
  const expected = rows.map(({ key }) => expectationOfRow(table, key, { ...known, switched: new Set() }));
  const found = await documents.mget(expected.flatMap((each, i) => (each.kind === 'document' ? [{ index: each.index, id: rows[i]!.key.id }] : [])));
  let next = 0;
  return rows.map(({ row }, i): Held => {
    const each = expected[i]!;
    if (each.kind === 'none') return each.why === 'expired' ? 'expired' : each.why === 'accepted' ? 'dead-lettered' : 'no-index';
    const document = found[next++];
    if (!document?.source) return 'missing';
    return differingFields(expectedText(row), document.text, document.source, row, CONNECTORS[table]).length === 0 ? 'equal' : 'different';
  });
}
