import { DifyEsError, type ErrorCode } from '../../core/errors.ts';
import { isTlsFault } from '../../core/tls-fault.ts';

/*
 * What an error of kafkajs means, by its `type` (the broker's error name), its `name` or the socket's `code`, all along
 * its causes, since kafkajs wraps them. Never by message text.
 */

export interface KafkaVerdict {
  readonly code: ErrorCode;
  /** Worth waiting for: abort, begin again, and it may pass. Everything else needs a person. */
  readonly retriable: boolean;
  /** The broker's name of the error, or the library's. */
  readonly reason: string;
}

const AUTH = new Set([
  'SASL_AUTHENTICATION_FAILED', 'UNSUPPORTED_SASL_MECHANISM', 'ILLEGAL_SASL_STATE', 'TOPIC_AUTHORIZATION_FAILED', 'GROUP_AUTHORIZATION_FAILED',
  'CLUSTER_AUTHORIZATION_FAILED', 'TRANSACTIONAL_ID_AUTHORIZATION_FAILED', 'KafkaJSSASLAuthenticationError',
]);

/** Through API versions that kafkajs speaks, a fenced producer and one whose transaction expired get the same answer. */
const FENCED = new Set(['INVALID_PRODUCER_EPOCH', 'PRODUCER_FENCED']);

const MISSING = new Set(['UNKNOWN_TOPIC_OR_PARTITION', 'KafkaJSTopicMetadataNotLoaded', 'KafkaJSMetadataNotLoaded']);

/** The topic takes less than it did: the publisher reads its limit again, so the next attempt passes or parks. */
const TOO_LARGE = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE']);

const REFUSED = new Set(['POLICY_VIOLATION', 'INVALID_CONFIG', 'INVALID_REPLICATION_FACTOR', 'INVALID_PARTITIONS', 'INVALID_TRANSACTION_TIMEOUT', 'INVALID_SESSION_TIMEOUT', 'INVALID_TOPIC_EXCEPTION', 'INVALID_GROUP_ID']);

/**
 * The broker forgot the producer or holds another state of its transaction: with a new producer it goes on. UNKNOWN is
 * what Kafka 4.1.1 answers to a commit that meets a taking over of its id (`PREPARE_COMMIT while it already a pending
 * state PREPARE_EPOCH_FENCE` in the broker's log); nothing was committed then.
 */
const TRANSACTION_LOST = new Set(['UNKNOWN', 'INVALID_TXN_STATE', 'INVALID_PRODUCER_ID_MAPPING', 'OUT_OF_ORDER_SEQUENCE_NUMBER', 'UNKNOWN_PRODUCER_ID', 'CONCURRENT_TRANSACTIONS', 'TRANSACTION_COORDINATOR_FENCED']);

const AWAY = new Set([
  'KafkaJSConnectionError', 'KafkaJSConnectionClosedError', 'KafkaJSRequestTimeoutError', 'KafkaJSBrokerNotFound', 'KafkaJSNoBrokerAvailableError', 'KafkaJSLockTimeout', 'KafkaJSTimeout', 'KafkaJSGroupCoordinatorNotFound',
  'BROKER_NOT_AVAILABLE', 'STALE_BROKER_EPOCH', 'UNKNOWN_MEMBER_ID', 'REBALANCE_IN_PROGRESS', 'ILLEGAL_GENERATION',
  'ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN',
]);

const RULES: readonly [ReadonlySet<string>, ErrorCode, boolean][] = [
  [FENCED, 'KAFKA_FENCED', false],
  [AUTH, 'KAFKA_AUTH', false],
  [MISSING, 'KAFKA_TOPIC_MISSING', false],
  [REFUSED, 'CONFIG_INVALID', false],
  [TOO_LARGE, 'KAFKA_UNREACHABLE', true],
  [TRANSACTION_LOST, 'KAFKA_UNREACHABLE', true],
  [AWAY, 'KAFKA_UNREACHABLE', true],
];

interface ErrorLike {
  readonly name?: unknown;
  readonly type?: unknown;
  readonly code?: unknown;
  readonly retriable?: unknown;
  readonly cause?: unknown;
  readonly errors?: unknown;
}

/** The error, its causes and the parts of an aggregate, outermost first. */
function* chain(error: unknown, depth = 0): Generator<ErrorLike> {
  if (typeof error !== 'object' || error === null || depth > 8) return;
  const like = error as ErrorLike;
  yield like;
  yield* chain(like.cause, depth + 1);
  if (Array.isArray(like.errors)) for (const part of like.errors) yield* chain(part, depth + 1);
}

function names({ type, code, name }: ErrorLike): string[] {
  return [type, code, name].filter((value): value is string => typeof value === 'string');
}

export function classifyKafkaError(error: unknown): KafkaVerdict {
  const links = [...chain(error)];
  const tls = links.flatMap(names).find((name) => isTlsFault(name) && name !== 'EPROTO');
  if (tls !== undefined) return { code: 'KAFKA_AUTH', retriable: false, reason: tls };
  for (const [set, code, retriable] of RULES) {
    for (const link of links) {
      const reason = names(link).find((name) => set.has(name));
      if (reason) return { code, retriable, reason };
    }
  }
  const protocol = links.find(({ type }) => typeof type === 'string');
  if (protocol?.retriable === true) return { code: 'KAFKA_UNREACHABLE', retriable: true, reason: String(protocol.type) };
  const innermost = links.at(-1);
  return { code: 'INTERNAL', retriable: false, reason: String(protocol?.type ?? innermost?.name ?? 'unknown') };
}

/** A record or batch was beyond what the broker takes. */
export function isTooLarge(error: unknown): boolean {
  return [...chain(error)].some((link) => names(link).some((name) => TOO_LARGE.has(name)));
}

/** `doing` says in a few words what did not work: "commit the transaction". A DifyEsError passes unchanged. */
export function toDifyEsError(error: unknown, doing: string): DifyEsError {
  if (error instanceof DifyEsError) return error;
  const { code, reason } = classifyKafkaError(error);
  return new DifyEsError(code, `Kafka: could not ${doing} (${reason})`, { cause: error });
}
