import { errors } from '@elastic/elasticsearch';
import { DifyEsError } from '../../core/errors.ts';

/**
 * What a failed request means. `auth`, `rights`: this program's credentials, no attempt will help. `too-large`: 413.
 * `blocked`: the server is there and refuses for now (full, busy, starting, a block). `lost`: no answer, or a torn one;
 * the request may have been carried out. `refused`: the server refuses this request as it is. `aborted`: by us.
 */
export type FailureKind = 'auth' | 'rights' | 'too-large' | 'blocked' | 'lost' | 'refused' | 'aborted';

export interface Failure {
  readonly kind: FailureKind;
  /** HTTP status, 0 without an answer. */
  readonly status: number;
  /** Elasticsearch's own error type, or the client's error name. Never a reason: it can quote a value. */
  readonly type: string;
}

/** 408: a proxy's time-out. 409 at request level: a conflict while the server was changing its state. */
const PASSING = new Set([408, 409, 425, 429, 500, 502, 503, 504, 507]);

/** Error types that pass by themselves or when a person acts, whatever the status beside them. */
const PASSING_TYPES = new Set([
  'cluster_block_exception', 'es_rejected_execution_exception', 'circuit_breaking_exception', 'unavailable_shards_exception',
  'no_shard_available_action_exception', 'master_not_discovered_exception', 'process_cluster_event_timeout_exception',
  'index_primary_shard_not_allocated_exception', 'node_disconnected_exception', 'node_not_connected_exception', 'node_closed_exception',
  'receive_timeout_transport_exception', 'primary_missing_action_exception', 'retry_on_primary_exception', 'timeout_exception',
]);

/**
 * 400s that are no fault of what was sent. `validation_exception`: the cluster has its maximum of shards open (only the
 * reason says so; its other uses are requests that this program does not make).
 */
const PASSING_400 = new Set(['validation_exception']);

function isPassing(status: number, type: string): boolean {
  return PASSING.has(status) || PASSING_TYPES.has(type) || (status === 400 && PASSING_400.has(type));
}

/**
 * Sorts whatever the client throws. An error that is none of the client's own is a fault of this program and thrown on.
 */
export function failureOf(error: unknown): Failure {
  if (error instanceof errors.ResponseError) {
    const type = typeOf(error.body);
    const failure = failureOfAnswer(error.statusCode ?? 0, type);
    // A page of something in between (a proxy that knows no such path) is no verdict on what was sent.
    return failure.kind === 'refused' && type === UNKNOWN ? { ...failure, kind: 'blocked' } : failure;
  }
  if (error instanceof errors.RequestAbortedError) return { kind: 'aborted', status: 0, type: error.name };
  if (error instanceof errors.ElasticsearchClientError && !(error instanceof errors.ConfigurationError)) return { kind: 'lost', status: 0, type: error.name };
  throw error;
}

export function failureOfAnswer(status: number, type: string): Failure {
  return { kind: kindOf(status, type), status, type };
}

function kindOf(status: number, type: string): FailureKind {
  // Before 403: a full disk and a write block answer 403 or 429 as cluster_block_exception, and both go away.
  if (isPassing(status, type)) return 'blocked';
  if (status === 401) return 'auth';
  if (status === 403) return 'rights';
  if (status === 413) return 'too-large';
  return status >= 500 ? 'blocked' : 'refused';
}

const UNKNOWN = 'unknown';

/** `error.type` of an answer, or `unknown`: a proxy in between answers with a page of its own. */
function typeOf(body: unknown): string {
  const error = typeof body === 'object' && body !== null ? (body as { error?: unknown }).error : undefined;
  const type = typeof error === 'object' && error !== null ? (error as { type?: unknown }).type : undefined;
  return typeof type === 'string' && /^[a-z0-9_]{1,80}$/.test(type) ? type : UNKNOWN;
}

/**
 * The error to end with, for a request that is not repeated. It takes nothing over from the client's error but status
 * and type: that one carries the request, and with a bulk the rows of other people would land in the log.
 */
export function esError(error: unknown): DifyEsError {
  if (error instanceof DifyEsError) return error;
  const failure = failureOf(error);
  const what = failure.status === 0 ? failure.type : `${failure.status} ${failure.type}`;
  switch (failure.kind) {
    case 'auth': return new DifyEsError('ES_AUTH', `Elasticsearch refuses the credentials (${what})`);
    case 'rights': return new DifyEsError('ES_RIGHTS', `Elasticsearch refuses the request for lack of rights (${what})`);
    case 'lost':
    case 'aborted': return new DifyEsError('ES_UNREACHABLE', `Elasticsearch does not answer (${what})`);
    case 'blocked': return new DifyEsError('ES_UNREACHABLE', `Elasticsearch is not ready (${what})`);
    case 'too-large':
    case 'refused': return new DifyEsError('INTERNAL', `Elasticsearch refuses a request of this program (${what})`);
    default: throw new TypeError(`unknown failure ${String(failure.kind satisfies never)}`);
  }
}
