import { CONNECTORS } from '../../connector/registry.ts';
import type { Row, TableName } from '../../core/contracts.ts';
import { isUuid } from '../../core/row-key.ts';
import { indexOf } from '../../pipeline/sink/index-name.ts';
import type { Documents, DocumentAddress } from './documents.ts';
import { differingFields } from './document-diff.ts';
import { expectationOfRow, type Boundaries } from './expectations.ts';
import type { FoundDocument } from './raw-documents.ts';
import type { OpenTable, Source } from './source.ts';
import type { Tally } from './tally.ts';
import type { SeenRow, Suspect } from './verdict.ts';

/** Documents of one `_mget`; fewer where the rows are large. */
const MGET_DOCUMENTS = 1000;
const MGET_BYTES = 8 << 20;

export interface ComparePorts {
  readonly source: Source;
  readonly documents: Documents;
  readonly known: Boundaries;
  readonly tally: Tally;
  readonly expectedText: (row: Row) => Buffer;
}

/** From rows to documents: yields who lacks his document or has one of other content. First look only. */
export async function suspectsOfRows({ documents, known, tally, expectedText }: ComparePorts, table: TableName, rows: readonly SeenRow[]): Promise<Suspect[]> {
  const suspects: Suspect[] = [];
  const compare = async (batch: readonly { seen: SeenRow; address: DocumentAddress }[]): Promise<void> => {
    const found = await documents.mget(batch.map(({ address }) => address));
    batch.forEach(({ seen }, i) => {
      const document = found[i];
      if (!document?.source || differingFields(expectedText(seen.row), document.text, document.source, seen.row, CONNECTORS[table]).length > 0) suspects.push({ table, id: seen.key.id, foundIn: null });
    });
  };

  let batch: { seen: SeenRow; address: DocumentAddress }[] = [];
  let bytes = 0;
  for (const seen of rows) {
    const expected = expectationOfRow(table, seen.key, known);
    if (expected.kind === 'none') {
      tally.apart[expected.why]++;
      continue;
    }
    tally.row(table, seen.key.tenantId, expected.month);
    batch.push({ seen, address: { index: expected.index, id: seen.key.id } });
    bytes += seen.row.cells.size;
    if (batch.length < MGET_DOCUMENTS && bytes < MGET_BYTES) continue;
    await compare(batch);
    batch = [];
    bytes = 0;
  }
  await compare(batch);
  return suspects;
}

/**
 * From documents to rows: yields those without a row and those of a row that belongs to another index. Asks PostgreSQL
 * for keys only.
 */
export async function suspectsOfDocuments({ source, known }: ComparePorts, table: OpenTable, documents: readonly FoundDocument[]): Promise<Suspect[]> {
  const name = table.source.table;
  const places = await source.placesOf(table, documents.map(({ id }) => id).filter(isUuid));
  const suspects: Suspect[] = [];
  for (const { id, index } of documents) {
    const key = places.get(id);
    const place = key && indexOf(known.prefix, CONNECTORS[name], key);
    if (typeof place !== 'object' || place.name !== index) suspects.push({ table: name, id, foundIn: index });
  }
  return suspects;
}

