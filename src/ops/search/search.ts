import type { Client } from '@elastic/elasticsearch';
import { CONNECTORS } from '../../connector/registry.ts';
import { DifyEsError } from '../../core/errors.ts';
import { esError } from '../../pipeline/sink/elastic-errors.ts';
import { indexPattern, parseIndexName, tenantPattern } from '../../pipeline/sink/index-name.ts';
import { indicesToSearch, nodesByWords, runsById, runsByWords, type Query, type SearchRequest } from './query.ts';

/** A run that was found. Nothing of its contents: those are other people's. */
export interface FoundRun {
  readonly runId: string;
  readonly tenantId: string;
  readonly appId: string | null;
  readonly workflowId: string | null;
  readonly status: string | null;
  /** As Dify stores it: UTC without a zone. */
  readonly createdAt: string | null;
  /** Seconds. */
  readonly elapsedTime: number | null;
  readonly index: string;
  /** The words are in the run's own inputs, outputs or error. */
  readonly inRun: boolean;
  /** Node executions with the words, as far as they were looked at. */
  readonly nodes: readonly string[];
}

export interface SearchResult {
  /** Newest first, at most `limit`. */
  readonly runs: readonly FoundRun[];
  /** False: there may be more than these. */
  readonly complete: boolean;
  /** Indices that were asked, by exact name. */
  readonly indices: number;
}

export interface Hit {
  readonly _index: string;
  readonly _source: Readonly<Record<string, unknown>>;
  readonly sort: readonly unknown[];
}

/** Node executions are looked at in pages until `limit` runs are found, at most so many. */
const PAGE = 500;
const PAGES = 20;
const RUN_FIELDS = ['id', 'app_id', 'workflow_id', 'status', 'created_at', 'elapsed_time'];
const NODE_FIELDS = ['id', 'workflow_execution_id'];
/** `missing`: a date that could not be read sorts as 1970 and not as the lowest long, which JSON cannot carry back. */
const NEWEST_FIRST = [{ created_at: { order: 'desc', missing: 0, unmapped_type: 'date' } }, { id: { order: 'desc', unmapped_type: 'keyword' } }];

/**
 * Finds runs by words of their inputs, outputs and error, or of those of their node executions. Lists the indices of the
 * prefix first and searches by exact names only: a pattern could reach into somebody else's prefix. Throws ES_*.
 */
export async function searchRuns(client: Client, prefix: string, request: SearchRequest): Promise<SearchResult> {
  const [runIndices, nodeIndices] = await Promise.all([
    listed(client, prefix, 'workflow_runs', request),
    listed(client, prefix, 'workflow_node_executions', { ...request, before: null }),
  ]);
  const { limit } = request;
  const own = await search(client, runIndices, { query: runsByWords(request), size: limit + 1, sort: NEWEST_FIRST, _source: RUN_FIELDS });
  const found = new Map<string, FoundRun>();
  for (const hit of own) addRun(found, prefix, hit, true);
  const nodesComplete = runIndices.length === 0 || request.words.length === 0 || (await addRunsOfNodes(client, prefix, { request, runIndices, nodeIndices }, found));
  const runs = [...found.values()].sort((a, b) => ((a.createdAt ?? '') < (b.createdAt ?? '') ? 1 : -1));
  return { runs: runs.slice(0, limit), complete: nodesComplete && runs.length <= limit, indices: runIndices.length + nodeIndices.length };
}

interface Scope {
  readonly request: SearchRequest;
  readonly runIndices: readonly string[];
  readonly nodeIndices: readonly string[];
}

/** False when it stopped before the last node execution. */
async function addRunsOfNodes(client: Client, prefix: string, { request, runIndices, nodeIndices }: Scope, found: Map<string, FoundRun>): Promise<boolean> {
  let after: readonly unknown[] | undefined;
  let fromNodes = 0;
  for (let page = 0; page < PAGES; page++) {
    const hits = await search(client, nodeIndices, { query: nodesByWords(request), size: PAGE, sort: NEWEST_FIRST, _source: NODE_FIELDS, ...(after ? { search_after: after } : {}) });
    const nodes = Map.groupBy(hits, ({ _source }) => String(_source['workflow_execution_id']));
    const unknown = [...nodes.keys()].filter((id) => !found.has(id));
    if (unknown.length > 0) {
      for (const hit of await search(client, runIndices, { query: runsById(unknown, request), size: unknown.length, sort: NEWEST_FIRST, _source: RUN_FIELDS })) {
        addRun(found, prefix, hit, false);
        fromNodes++;
      }
    }
    for (const [runId, executions] of nodes) addNodes(found, runId, executions);
    if (hits.length < PAGE) return true;
    if (fromNodes > request.limit) return false;
    after = hits.at(-1)!.sort;
  }
  return false;
}

function addRun(found: Map<string, FoundRun>, prefix: string, { _index, _source }: Hit, inRun: boolean): void {
  const parts = parseIndexName(prefix, [CONNECTORS.workflow_runs], _index);
  const runId = textOf(_source['id']);
  if (!parts || runId === null) return;
  found.set(runId, {
    runId, tenantId: parts.tenantId, index: _index, inRun, nodes: [],
    appId: textOf(_source['app_id']), workflowId: textOf(_source['workflow_id']), status: textOf(_source['status']), createdAt: textOf(_source['created_at']),
    elapsedTime: typeof _source['elapsed_time'] === 'number' ? _source['elapsed_time'] : null,
  });
}

function addNodes(found: Map<string, FoundRun>, runId: string, executions: readonly Hit[]): void {
  const run = found.get(runId);
  if (run) found.set(runId, { ...run, nodes: [...run.nodes, ...executions.flatMap(({ _source }) => textOf(_source['id']) ?? [])] });
}

const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null);

export async function listed(client: Client, prefix: string, table: 'workflow_runs' | 'workflow_node_executions', request: Pick<SearchRequest, 'tenantIds' | 'from' | 'before'>): Promise<string[]> {
  const connector = CONNECTORS[table];
  const patterns = request.tenantIds.length === 0 ? [indexPattern(prefix, connector)] : request.tenantIds.map((tenantId) => tenantPattern(prefix, connector, tenantId));
  const names = new Set<string>();
  for (const pattern of patterns) {
    const lines = await guarded(() => client.transport.request<{ index: string }[]>({ method: 'GET', path: `/_cat/indices/${pattern}`, querystring: { format: 'json', h: 'index', expand_wildcards: 'open' } }));
    for (const { index } of lines) names.add(index);
  }
  return indicesToSearch(prefix, table, [...names], request);
}

/**
 * One search over indices by name. As `_msearch`, since it takes them in its body: the names of a hundred months are more
 * than the 4 kB that Elasticsearch takes as the first line of a request. An index that is dropped in between is passed
 * over; an answer without some shard is an error, or runs would be missing unseen.
 */
export async function search(client: Client, indices: readonly string[], body: Query): Promise<readonly Hit[]> {
  if (indices.length === 0) return [];
  interface Answer { responses: { status: number; error?: { type?: string }; hits?: { hits: Hit[] } }[] }
  const header = { index: indices, ignore_unavailable: true, allow_partial_search_results: false };
  const bulkBody = `${JSON.stringify(header)}\n${JSON.stringify({ ...body, track_total_hits: false })}\n`;
  const answer = await guarded(() => client.transport.request<Answer>({ method: 'POST', path: '/_msearch', bulkBody }));
  const [first] = answer.responses;
  if (!first?.hits) throw new DifyEsError(first?.status === 403 ? 'ES_RIGHTS' : 'ES_UNREADABLE', `the search failed (${first?.error?.type ?? 'no answer'})`);
  return first.hits.hits;
}

async function guarded<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    throw esError(error);
  }
}
