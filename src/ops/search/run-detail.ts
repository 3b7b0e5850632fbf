import type { Client } from '@elastic/elasticsearch';
import { CONNECTORS } from '../../connector/registry.ts';
import { isUuid } from '../../core/row-key.ts';
import { parseIndexName } from '../../pipeline/sink/index-name.ts';
import { Documents } from '../validate/documents.ts';
import { listed, search, type Hit } from './search.ts';

/** A document whole, with the contents of other people: for whoever asked for exactly this one. */
export interface WholeDocument {
  readonly index: string;
  readonly id: string;
  /** All digits; below 2^52 Dify itself wrote it. */
  readonly version: string;
  /** `_source` as the server's own JSON text: numbers beyond 2^53 keep their digits. */
  readonly source: string;
}

/** A node execution in the list of its run: what it was, not what it held. */
export interface NodeLine {
  readonly index: string;
  readonly id: string;
  readonly position: number | null;
  readonly title: string | null;
  readonly nodeType: string | null;
  readonly status: string | null;
  /** Seconds. */
  readonly elapsedTime: number | null;
  readonly createdAt: string | null;
}

export interface RunDetail {
  readonly tenantId: string;
  readonly run: WholeDocument;
  /** In the order of Dify's reader: by index, then created_at. */
  readonly nodes: readonly NodeLine[];
  /** False: the run has more than these. */
  readonly complete: boolean;
}

const MOST_NODES = 1_000;
const NODE_FIELDS = ['id', 'index', 'title', 'node_type', 'status', 'elapsed_time', 'created_at'];
/** `missing`: as in the search for runs. */
const IN_ORDER = [{ index: { order: 'asc', missing: 0, unmapped_type: 'integer' } }, { created_at: { order: 'asc', missing: 0, unmapped_type: 'date' } }, { id: { order: 'asc', unmapped_type: 'keyword' } }];
type Table = 'workflow_runs' | 'workflow_node_executions';

/**
 * One document by its place, as search named it; null when there is none, or when the index is none of this prefix and
 * table: what a browser sends is not taken on trust. Real time, before any refresh. Throws ES_*.
 */
export async function readWhole(client: Client, prefix: string, table: Table, place: { readonly index: string; readonly id: string }, signal: AbortSignal): Promise<WholeDocument | null> {
  if (!isUuid(place.id) || !parseIndexName(prefix, [CONNECTORS[table]], place.index)) return null;
  const [found] = await new Documents(client, prefix, signal).mget([{ index: place.index, id: place.id }]);
  if (!found?.source) return null;
  return { index: found.index, id: found.id, version: String(found.version), source: found.text.toString('utf8', found.source.start, found.source.end) };
}

/** A run with the list of its node executions, which may lie in later months; null as for readWhole. */
export async function readRun(client: Client, prefix: string, place: { readonly index: string; readonly id: string }, signal: AbortSignal): Promise<RunDetail | null> {
  const run = await readWhole(client, prefix, 'workflow_runs', place, signal);
  const parts = run && parseIndexName(prefix, [CONNECTORS.workflow_runs], run.index);
  if (!run || !parts) return null;
  const indices = await listed(client, prefix, 'workflow_node_executions', { tenantIds: [parts.tenantId], from: `${parts.month.replace('.', '-')}-01 00:00:00`, before: null });
  const query = { bool: { filter: [{ term: { tenant_id: parts.tenantId } }, { term: { workflow_execution_id: run.id } }] } };
  const hits = await search(client, indices, { query, size: MOST_NODES + 1, sort: IN_ORDER, _source: NODE_FIELDS });
  return { tenantId: parts.tenantId, run, nodes: hits.slice(0, MOST_NODES).flatMap(nodeLine), complete: hits.length <= MOST_NODES };
}

function nodeLine({ _index: index, _source: source }: Hit): NodeLine[] {
  const text = (name: string): string | null => (typeof source[name] === 'string' ? source[name] : null);
  const number = (name: string): number | null => (typeof source[name] === 'number' ? source[name] : null);
  const id = text('id');
  if (id === null) return [];
  return [{ index, id, position: number('index'), title: text('title'), nodeType: text('node_type'), status: text('status'), elapsedTime: number('elapsed_time'), createdAt: text('created_at') }];
}
