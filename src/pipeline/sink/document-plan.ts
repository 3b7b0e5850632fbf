import { SEARCH_TEXT } from '../../connector/definition.ts';
import type { Connector, FieldSpec } from '../../connector/definition.ts';
import type { RowShape } from '../../core/contracts.ts';

/** How the rows of one shape become documents, worked out once: the columns of a row are matched by name only here. */
export interface DocumentPlan {
  readonly columns: readonly PlannedColumn[];
  /** The cells that feed search_text, in the order of the connector. */
  readonly search: readonly { readonly index: number; readonly json: boolean }[];
  /** Scratch of the writer: where in it the JSON cells of the row at hand were spliced in, -1 for those that are none. */
  readonly spliced: number[];
}

export interface PlannedColumn {
  readonly index: number;
  readonly kind: FieldSpec['kind'];
  /** `,"field":` */
  readonly name: Buffer;
  /** `,"field":null` or `,"field":{}`; undefined where SQL NULL leaves the field out. */
  readonly ifNull: Buffer | undefined;
}

export function planOf(connector: Connector, shape: RowShape): DocumentPlan {
  const taken = new Set<string>([SEARCH_TEXT]);
  for (const [column, spec] of Object.entries(connector.columns)) taken.add(spec.field ?? column);
  const columns = shape.columns.map((column, index): PlannedColumn => {
    const spec = connector.columns[column];
    const field = spec ? (spec.field ?? column) : carriedField(column, taken);
    const name = `,${JSON.stringify(field)}:`;
    const nothing = spec?.whenNull ?? (connector.nulls === 'keep' ? 'null' : undefined);
    return { index, kind: spec?.kind ?? 'text', name: Buffer.from(name), ifNull: nothing === undefined ? undefined : Buffer.from(name + nothing) };
  });
  const search = connector.searchText.map((column) => ({ index: shape.columns.indexOf(column), json: connector.columns[column]?.kind === 'json' }));
  return { columns, search: search.filter(({ index }) => index >= 0), spliced: shape.columns.map(() => -1) };
}

/**
 * The field of a column that the connector does not name. Its own name, unless Elasticsearch would refuse the whole
 * document for it: a field twice (a column `metadata` beside the renamed one), a metadata field (`_id`), odd dots.
 */
function carriedField(column: string, taken: Set<string>): string {
  let field = /^[A-Za-z][A-Za-z0-9_]*$/.test(column) ? column : `column_${column.replace(/[^A-Za-z0-9_]/g, '_')}`;
  while (taken.has(field)) field = `column_${field}`;
  taken.add(field);
  return field;
}
