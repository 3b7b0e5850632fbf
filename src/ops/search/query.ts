import { SEARCH_TEXT } from '../../connector/definition.ts';
import { isUuid } from '../../core/row-key.ts';
import { parseIndexName } from '../../pipeline/sink/index-name.ts';
import { CONNECTORS } from '../../connector/registry.ts';

export interface SearchRequest {
  /** All must be in one document: the run's own, or that of one of its node executions. Without any: every run that fits. */
  readonly words: readonly string[];
  /** Empty: every tenant. */
  readonly tenantIds: readonly string[];
  /** Of the run, as Dify writes it (`succeeded`, `failed`, …); null: any. */
  readonly status: string | null;
  /** Of the run's created_at, naive UTC, `2025-10-31 00:00:00`; from is inclusive, before exclusive. */
  readonly from: string | null;
  readonly before: string | null;
  readonly limit: number;
}

export type Query = Readonly<Record<string, unknown>>;
type Bounds = Pick<SearchRequest, 'from' | 'before'>;

/**
 * Each word is a phrase of its own: the standard analyzer cuts 天気予報 into single characters, and a plain match would
 * find every text that has the four of them anywhere. A uuid may also be the id of the document itself.
 */
function wordsQuery(words: readonly string[]): readonly Query[] {
  return words.map((word) => {
    const phrase = { match_phrase: { [SEARCH_TEXT]: word } };
    return isUuid(word.toLowerCase()) ? { bool: { should: [phrase, { term: { id: word.toLowerCase() } }] } } : phrase;
  });
}

/** Runs that hold the words themselves. */
export function runsByWords({ words, status, from, before }: SearchRequest): Query {
  return { bool: { filter: [...wordsQuery(words), ...runFilters({ status, from, before })] } };
}

/** The runs of these ids, as far as they fit the request. */
export function runsById(ids: readonly string[], request: Pick<SearchRequest, 'status' | 'from' | 'before'>): Query {
  return { bool: { filter: [{ terms: { id: ids } }, ...runFilters(request)] } };
}

/**
 * Node executions that hold the words and belong to a run (one that was debugged alone has none). No upper bound: a node
 * may be executed days after its run began, and the run's own time is what was asked for.
 */
export function nodesByWords({ words, from }: Pick<SearchRequest, 'words' | 'from'>): Query {
  return { bool: { filter: [...wordsQuery(words), { exists: { field: 'workflow_execution_id' } }, ...timeFilter({ from, before: null })] } };
}

function runFilters({ status, ...bounds }: Pick<SearchRequest, 'status'> & Bounds): Query[] {
  return [...(status === null ? [] : [{ term: { status } }]), ...timeFilter(bounds)];
}

function timeFilter({ from, before }: Bounds): Query[] {
  if (from === null && before === null) return [];
  return [{ range: { created_at: { ...(from === null ? {} : { gte: isoOf(from) }), ...(before === null ? {} : { lt: isoOf(before) }) } } }];
}

/**
 * Of what the server lists, the indices to search: ours by the exact form of their names, in the months asked for, newest
 * month first. `from` and `before` as in the request; for node executions `before` is null.
 */
export function indicesToSearch(prefix: string, table: 'workflow_runs' | 'workflow_node_executions', listed: readonly string[], { from, before }: Bounds): string[] {
  return listed
    .flatMap((name) => {
      const parts = parseIndexName(prefix, [CONNECTORS[table]], name);
      return parts && overlaps(parts.month, { from, before }) ? [{ name, month: parts.month }] : [];
    })
    .sort((a, b) => (a.month === b.month ? (a.name < b.name ? -1 : 1) : a.month < b.month ? 1 : -1))
    .map(({ name }) => name);
}

function overlaps(month: string, { from, before }: Bounds): boolean {
  if (from !== null && month < monthText(from)) return false;
  // before is exclusive: the first of a month at midnight does not take that month in
  return before === null || `${month.replace('.', '-')}-01 00:00:00` < before;
}

const monthText = (time: string): string => time.slice(0, 7).replace('-', '.');
const isoOf = (time: string): string => time.replace(' ', 'T');
