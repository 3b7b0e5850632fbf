import { SEARCH_TEXT, type Connector } from '../../connector/definition.ts';
import type { Row } from '../../core/contracts.ts';
import { members, sameJson, skipValue, stringValue, type Span } from './json-compare.ts';

/** What the sink writes in place of a JSON column that it cannot splice in. */
const INVALID_JSON = '_invalid_json';

/**
 * Compares the document that a row should have with the one that is there; names the fields that differ, in the order
 * of the expected document and then those that only the actual one has. Empty: equal. Names only, never a value.
 *
 * `expected` is the whole text; `actual` is one value inside an answer. The `search_text` field is none of the row's.
 */
export function differingFields(expected: Buffer, actual: Buffer, actualSpan: Span, row: Row, connector: Connector): string[] {
  if (expected.equals(actual.subarray(actualSpan.start, actualSpan.end))) return [];
  if (sameJson(expected, 0, actual, actualSpan.start)) return [];
  const left = members(expected, 0);
  const right = members(actual, actualSpan.start);
  const fields: string[] = [];
  for (const [name, span] of left) {
    if (name === SEARCH_TEXT) continue;
    const other = right.get(name);
    if (!other || !(sameJson(expected, span.start, actual, other.start) || isKeptInvalid(actual, other, row, connector, name))) fields.push(name);
  }
  for (const name of right.keys()) if (name !== SEARCH_TEXT && !left.has(name)) fields.push(name);
  return fields;
}

/**
 * True for `{"_invalid_json": "<the column's text>"}`: a document that Elasticsearch refused was sent again with its
 * JSON columns in this form, so it is what the row should have there.
 */
function isKeptInvalid(actual: Buffer, span: Span, row: Row, connector: Connector, field: string): boolean {
  const column = Object.entries(connector.columns).find(([name, spec]) => spec.kind === 'json' && (spec.field ?? name) === field)?.[0];
  const cell = column === undefined ? undefined : row.cells.get(row.shape.columns.indexOf(column));
  if (!cell || actual[span.start] !== 0x7b) return false;
  const parts = members(actual, span.start);
  const text = parts.get(INVALID_JSON);
  if (parts.size !== 1 || !text || actual[text.start] !== 0x22) return false;
  return stringValue(actual, text.start, skipValue(actual, text.start)) === cell.toString('utf8');
}
