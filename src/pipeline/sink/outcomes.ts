import type { DeadLetterCause } from '../../core/contracts.ts';
import type { ErrorCode } from '../../core/errors.ts';
import { failureOfAnswer } from './elastic-errors.ts';

/** One item of the answer to a bulk, as the filter_path leaves it. */
export interface AnsweredItem {
  readonly status: number;
  /** `error.type`; undefined when the item has no error. */
  readonly errorType: string | undefined;
  /** The field that the server names, if it names one. Never a value. */
  readonly field: string | undefined;
}

/**
 * What one item's answer means. `retry`: this item again, later; `whenAlone` says what it becomes if it is refused like
 * that again and again, alone in its bulk, while others pass. `refused-parse`: once more with its JSON columns as text.
 */
export type Verdict =
  | { readonly kind: 'applied' }
  | { readonly kind: 'stale' }
  | { readonly kind: 'retry'; readonly status: number; readonly type: string; readonly whenAlone: DeadLetterCause | undefined }
  | { readonly kind: 'refused-parse'; readonly detail: string }
  | { readonly kind: 'refused'; readonly cause: DeadLetterCause; readonly detail: string }
  | { readonly kind: 'stop'; readonly code: ErrorCode; readonly type: string };

const APPLIED: Verdict = { kind: 'applied' };
const STALE: Verdict = { kind: 'stale' };

/** These say that the request was too much for the moment; other 429s (a full disk) say nothing about the document. */
const TOO_MUCH = new Set(['es_rejected_execution_exception', 'circuit_breaking_exception']);

/** 400s that no rewriting of the document can cure. */
const INDEX_400 = new Set(['index_closed_exception', 'invalid_index_name_exception']);

/** By status and `error.type`, as 8.19.21 and 9.5.3 send them (each is in test/pipeline/sink/outcomes.test.ts, those of a real server that refuses in blocked.es.test.ts). */
export function classifyItem(item: AnsweredItem, deletes: boolean): Verdict {
  const { status, errorType } = item;
  if (status >= 200 && status < 300) return APPLIED;
  const type = errorType ?? 'unknown';
  // A delete of what is not there; with action.auto_create_index off also of an index that is not there.
  if (status === 404 && deletes) return APPLIED;
  if (status === 409 && type === 'version_conflict_engine_exception') return STALE;
  // The index is not there and may not be created (action.auto_create_index): a setting, not the document.
  if (status === 404) return { kind: 'retry', status, type, whenAlone: undefined };
  const failure = failureOfAnswer(status, type);
  switch (failure.kind) {
    case 'auth': return { kind: 'stop', code: 'ES_AUTH', type };
    case 'rights': return { kind: 'stop', code: 'ES_RIGHTS', type };
    case 'blocked': return { kind: 'retry', status, type, whenAlone: causeWhenAlone(status, type) };
    case 'too-large': return { kind: 'refused', cause: 'too-large-for-elasticsearch', detail: detailOf(item) };
    case 'refused':
    case 'lost':
    case 'aborted': return INDEX_400.has(type) || deletes ? { kind: 'refused', cause: 'refused', detail: detailOf(item) } : { kind: 'refused-parse', detail: detailOf(item) };
    default: throw new TypeError(`unknown failure ${String(failure.kind satisfies never)}`);
  }
}

/** A document above about 2 % of the heap is answered with 429 for ever; one that makes the server fail, with 500. */
function causeWhenAlone(status: number, type: string): DeadLetterCause | undefined {
  if (TOO_MUCH.has(type)) return 'too-large-for-elasticsearch';
  return status === 500 ? 'refused' : undefined;
}

function detailOf(item: AnsweredItem): string {
  return `${item.status} ${item.errorType ?? 'unknown'}${item.field === undefined ? '' : ` at field ${item.field}`}`;
}

/** The answer to a bulk with BULK_FILTER. */
export interface BulkAnswer {
  readonly errors?: boolean;
  readonly items?: readonly Readonly<Record<string, { readonly status?: number; readonly error?: { readonly type?: string; readonly reason?: string } }>>[];
}

/** Keeps the answer small, and `_version`, which a JS number cannot hold, out of it. */
export const BULK_FILTER = 'errors,items.*.status,items.*.error.type,items.*.error.reason';

/**
 * The items in the order of the request; undefined when the answer is not one for `expected` items: torn by a proxy, or
 * a page of something else. It then counts as lost.
 */
export function itemsOf(answer: unknown, expected: number): AnsweredItem[] | undefined {
  const items = typeof answer === 'object' && answer !== null ? (answer as BulkAnswer).items : undefined;
  if (!Array.isArray(items) || items.length !== expected) return undefined;
  const answered: AnsweredItem[] = [];
  for (const item of items as NonNullable<BulkAnswer['items']>) {
    const inner = item?.['index'] ?? item?.['delete'];
    if (typeof inner?.status !== 'number') return undefined;
    answered.push({ status: inner.status, errorType: inner.error?.type, field: fieldIn(inner.error?.reason) });
  }
  return answered;
}

/**
 * Only the name of the field out of `failed to parse field [x] of type [y] in document with id 'z'. Preview of field's
 * value: …`: the rest of a reason can be a row's value and goes nowhere.
 */
function fieldIn(reason: string | undefined): string | undefined {
  return reason === undefined ? undefined : /\bfield \[([A-Za-z0-9_.]{1,64})\] of type \[/.exec(reason)?.[1];
}
