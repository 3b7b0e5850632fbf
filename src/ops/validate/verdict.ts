import { CONNECTORS } from '../../connector/registry.ts';
import type { Row, TableName } from '../../core/contracts.ts';
import type { RowKey } from '../../core/row-key.ts';
import { FIRST_OWN_VERSION, type RowVersion } from '../../core/row-version.ts';
import { parseIndexName } from '../../pipeline/sink/index-name.ts';
import { differingFields } from './document-diff.ts';
import { expectationOfRow, verdictOfSurplus, type Boundaries } from './expectations.ts';
import { members, stringValue } from './json-compare.ts';
import type { FoundDocument } from './raw-documents.ts';
import type { Apart, Difference } from './tally.ts';

/** A row version: xmin changes with every transaction that writes the row. */
export interface SeenKey {
  readonly key: RowKey;
  readonly xmin: string;
}

export interface SeenRow extends SeenKey {
  readonly row: Row;
}

/** What the first look found wrong: only a suspicion, since both sides move while they are read. */
export interface Suspect {
  readonly table: TableName;
  readonly id: string;
  /** The index of the document to explain; null when the row is what lacks its document. */
  readonly foundIn: string | null;
}

/**
 * The second look at a suspect. `before` was read before the drain point was taken, the documents after it was reached,
 * `after` after them. Null: no such row, no such document.
 */
export interface Evidence {
  readonly before: SeenKey | null;
  readonly after: SeenRow | null;
  /** The document in the index where `before` belongs. */
  readonly expectedDocument: FoundDocument | null;
  /** The document in `foundIn`; the same as expectedDocument where that is the same index. */
  readonly foundDocument: FoundDocument | null;
  /** Version of a commit at the drain point: what is above it was written later. Null: the drain point was not reached. */
  readonly drainVersion: RowVersion | null;
}

export type Verdict = { readonly kind: 'equal' } | { readonly kind: 'moving' } | { readonly kind: 'apart'; readonly why: Apart } | { readonly kind: 'difference'; readonly difference: Difference };

const EQUAL: Verdict = { kind: 'equal' };
const MOVING: Verdict = { kind: 'moving' };

/**
 * Judges a suspect. A row of one xmin before the drain point and after the reading of its document was that row all the
 * time, so its document had to be there: what is wrong now is a difference. Anything else is moving, and looked at again.
 */
export function judge(suspect: Suspect, seen: Evidence, expectedText: (row: Row) => Buffer, known: Boundaries): Verdict {
  const { before, after } = seen;
  if ((before === null) !== (after === null) || (before && after && before.xmin !== after.xmin)) return MOVING;
  return after ? judgeRow(suspect, seen, after, expectedText, known) : judgeSurplus(suspect, seen, known);
}

function judgeRow(suspect: Suspect, seen: Evidence, { key, row }: SeenRow, expectedText: (row: Row) => Buffer, known: Boundaries): Verdict {
  const { table, id, foundIn } = suspect;
  const expected = expectationOfRow(table, key, known);
  if (expected.kind === 'none' && (foundIn === null || expected.why !== 'expired')) return { kind: 'apart', why: expected.why };
  const index = expected.kind === 'document' ? expected.index : null;
  const missing = (belongsIn: string): Verdict => ({ kind: 'difference', difference: { class: 'missing', table, tenantId: key.tenantId, month: expected.month, id, index: belongsIn } });

  if (foundIn !== null && foundIn !== index) {
    const found = seen.foundDocument;
    const where = parseIndexName(known.prefix, [CONNECTORS[table]], foundIn);
    if (!found || !where) return EQUAL;
    if (isAfter(found, seen.drainVersion)) return MOVING;
    // Dify's own, which a repair that deletes surplus must never see as a difference; its row may lack a document all the same
    if (found.version < FIRST_OWN_VERSION) return index !== null && seen.expectedDocument === null ? missing(index) : { kind: 'apart', why: 'dify-own' };
    const { tenantId, month } = where;
    return { kind: 'difference', difference: { class: 'wrong-index', table, tenantId, month, id, index: foundIn, ...(index ? { belongsIn: index, missingThere: seen.expectedDocument === null } : {}) } };
  }

  if (expected.kind === 'none') return { kind: 'apart', why: expected.why };
  const document = seen.expectedDocument;
  if (!document?.source) return missing(expected.index);
  const fields = differingFields(expectedText(row), document.text, document.source, row, CONNECTORS[table]);
  return fields.length === 0 ? EQUAL : { kind: 'difference', difference: { class: 'stale', table, tenantId: key.tenantId, month: expected.month, id, index: expected.index, fields } };
}

function judgeSurplus({ table, id, foundIn }: Suspect, seen: Evidence, known: Boundaries): Verdict {
  const found = seen.foundDocument;
  const where = foundIn === null ? undefined : parseIndexName(known.prefix, [CONNECTORS[table]], foundIn);
  if (!found || !where || foundIn === null) return EQUAL;
  // inserted and deleted again behind the drain point: its tombstone is still on the way
  if (isAfter(found, seen.drainVersion)) return MOVING;
  const why = verdictOfSurplus(where, found.version, createdAtOf(found), known);
  if (why !== 'extra') return { kind: 'apart', why };
  return { kind: 'difference', difference: { class: 'extra', table, tenantId: where.tenantId, month: where.month, id, index: foundIn } };
}

function isAfter(document: FoundDocument, drainVersion: RowVersion | null): boolean {
  return drainVersion !== null && document.version > drainVersion;
}

/** `created_at` of a document as Elasticsearch returned it, null where it is no string. */
export function createdAtOf({ text, source }: FoundDocument): string | null {
  const span = source && text[source.start] === 0x7b ? members(text, source.start).get('created_at') : undefined;
  return span && text[span.start] === 0x22 ? stringValue(text, span.start, span.end) : null;
}
