import { SEARCH_TEXT } from '../../connector/definition.ts';
import type { Connector, FieldSpec } from '../../connector/definition.ts';

/** A field of an Elasticsearch mapping, as it is written into a template. */
export type FieldMapping = Readonly<Record<string, unknown>>;

export interface Mapping {
  readonly dynamic: false;
  readonly _source?: { readonly excludes: readonly string[] };
  readonly properties: Readonly<Record<string, FieldMapping>>;
}

/**
 * Lucene refuses a term above 32,766 bytes and with it the whole document; ignore_above counts UTF-16 units, of which
 * one takes at most three bytes. A longer value stays in _source, only not searchable.
 */
const KEYWORD: FieldMapping = { type: 'keyword', ignore_above: 8191 };

/** title is varchar(255), and a character outside the basic plane counts twice. */
const TEXT_KEYWORD: FieldMapping = { type: 'keyword', ignore_above: 512 };

/**
 * The mapping of a connector's documents. `dynamic: false`: a column that Dify adds later is carried in _source and can
 * neither blow up the mapping nor refuse a document.
 *
 * Where search_text is on it is excluded from _source, and Elasticsearch then writes _source anew: numbers are read as
 * double and printed again (1.10 becomes 1.1, 1e2 becomes 100.0, -0 becomes 0; integers keep every digit), escapes and
 * blanks change their form. Without it _source is kept byte for byte. [measured on 8.19.21 and 9.5.3]
 */
export function mappingOf(connector: Connector, options: { readonly searchText: boolean }): Mapping {
  const properties: Record<string, FieldMapping> = {};
  for (const [column, spec] of Object.entries(connector.columns)) properties[spec.field ?? column] = fieldMapping(spec);
  if (!options.searchText || connector.searchText.length === 0) return { dynamic: false, properties };
  return { dynamic: false, _source: { excludes: [SEARCH_TEXT] }, properties: { ...properties, [SEARCH_TEXT]: { type: 'text', norms: false } } };
}

/**
 * `ignore_malformed` wherever a value can fail to parse: PostgreSQL has NaN and infinity, and a document must not be
 * refused for one field.
 */
function fieldMapping(spec: FieldSpec): FieldMapping {
  switch (spec.kind) {
    case 'keyword': return KEYWORD;
    case 'text': return spec.keyword ? { type: 'text', fields: { keyword: TEXT_KEYWORD } } : { type: 'text' };
    case 'date': return { type: 'date', format: 'strict_date_optional_time', ignore_malformed: true };
    case 'integer':
    case 'long':
    case 'float': return { type: spec.kind, ignore_malformed: true };
    // Takes any JSON value, not only objects; its content is not looked at beyond the parser's own limits.
    case 'json': return { type: 'object', enabled: false };
    default: throw new TypeError(`unknown kind ${String(spec.kind satisfies never)}`);
  }
}
