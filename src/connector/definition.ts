import type { TableName } from '../core/contracts.ts';

/**
 * What a file in connectors/ may say: which columns of a Dify table become which fields of its document.
 *
 * A connector is data. Adding a column or a field to the document is an edit there alone: the mapping in the index
 * template, the bulk body and the comparison of both ends are all derived from it. Columns that a connector does not
 * name are carried into _source as text and not indexed, and a column that this Dify release lacks is no error.
 */
export interface Connector {
  readonly table: TableName;
  /** `--data-type` on the command line. */
  readonly dataType: string;
  /** The middle of the index name: `{prefix}-{index}-{tenant_id}-{YYYY.MM}`. */
  readonly index: string;
  /** SQL NULL in the document: the key left out, or kept as null. A JSON column may say otherwise (`whenNull`). */
  readonly nulls: 'omit' | 'keep';
  readonly columns: Readonly<Record<string, FieldSpec>>;
  /** Columns whose words go into `search_text`, in this order. Empty: the table has no full-text field. */
  readonly searchText: readonly string[];
}

/**
 * How one column is written and mapped.
 *
 * keyword, text: a JSON string. date: ISO 8601 with `T` and no zone. integer, long, float: the server's digits, so no
 * value is rounded. json: the column's own text, spliced in once it is proven valid.
 */
export interface FieldSpec {
  readonly kind: 'keyword' | 'text' | 'date' | 'integer' | 'long' | 'float' | 'json';
  /** The name in the document, where it is not the column's. */
  readonly field?: string;
  /** text only: a `.keyword` beside it, for exact match and sorting. */
  readonly keyword?: boolean;
  /** json only: what SQL NULL becomes; without it the table's `nulls` decides. */
  readonly whenNull?: '{}';
}

export const keyword = (options: Pick<FieldSpec, 'field'> = {}): FieldSpec => ({ kind: 'keyword', ...options });
export const text = (options: Pick<FieldSpec, 'field' | 'keyword'> = {}): FieldSpec => ({ kind: 'text', ...options });
export const date = (options: Pick<FieldSpec, 'field'> = {}): FieldSpec => ({ kind: 'date', ...options });
export const integer = (options: Pick<FieldSpec, 'field'> = {}): FieldSpec => ({ kind: 'integer', ...options });
export const long = (options: Pick<FieldSpec, 'field'> = {}): FieldSpec => ({ kind: 'long', ...options });
export const float = (options: Pick<FieldSpec, 'field'> = {}): FieldSpec => ({ kind: 'float', ...options });
export const json = (options: Pick<FieldSpec, 'field' | 'whenNull'> = {}): FieldSpec => ({ kind: 'json', ...options });

/** The name of the full-text field. Never in _source: the template excludes it there. */
export const SEARCH_TEXT = 'search_text';

const ROUTING = ['id', 'tenant_id', 'created_at'] as const;

/**
 * Checks a declaration and returns it unchanged. Throws a TypeError that names the table and the column: a wrong
 * declaration must stop the program at start and not the first row at night.
 */
export function defineConnector(connector: Connector): Connector {
  const fault = (what: string): never => {
    throw new TypeError(`connectors/${connector.table}.ts: ${what}`);
  };
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(connector.index)) fault(`index "${connector.index}" is no part of an index name`);
  for (const column of ROUTING) if (!connector.columns[column]) fault(`column ${column} is missing, and without it no row finds its document`);
  const fields = new Set<string>();
  for (const [column, spec] of Object.entries(connector.columns)) {
    const field = spec.field ?? column;
    if (fields.has(field)) fault(`two columns are written to the field "${field}"`);
    if (field === SEARCH_TEXT) fault(`the field "${SEARCH_TEXT}" is the program's own`);
    fields.add(field);
  }
  for (const column of connector.searchText) if (!connector.columns[column]) fault(`searchText names the column "${column}", which is not declared`);
  return connector;
}
