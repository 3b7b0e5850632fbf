import { setTimeout as sleep } from 'node:timers/promises';
import { DifyEsError, type ErrorCode } from '../../core/errors.ts';

/** Marks what Kafka's side threw: it is retried with another transaction, whatever it is, unless it says otherwise. */
export class PublishFailure extends Error {
  constructor(cause: unknown) {
    super('publishing failed', { cause });
    this.name = 'PublishFailure';
  }
}

/** Runs a call to the publisher. */
export async function publishing<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw new PublishFailure(error);
  }
}

/**
 * What to do about an error in the middle of a chunk. `again`: abort the transaction and read the same pages once more.
 * `describe`: the table is not what it was when it was described. `stop`: no repetition can help.
 */
export type Remedy = 'again' | 'describe' | 'stop';

/** Codes of errors that go by themselves. */
const PASSING: ReadonlySet<ErrorCode> = new Set(['PG_UNREACHABLE', 'PG_TLS', 'KAFKA_UNREACHABLE']);
/**
 * SQLSTATE classes (PostgreSQL documentation, appendix A): 08 connection, 40 rollback, 53 resources, 57 operator
 * intervention (a restart, a cancel, a terminated backend); 55P03 is lock_timeout behind an ALTER TABLE.
 */
const PASSING_STATES = /^(?:08|40|53|57|55P03)/;
/** Undefined table, undefined column: dropped or renamed since it was described. */
const CHANGED_STATES: ReadonlySet<string> = new Set(['42P01', '42703']);

/** `sessionDead`: the connection broke, which node-postgres says with errors that bear no code. */
export function remedyFor(error: unknown, sessionDead: boolean): Remedy {
  const cause = error instanceof PublishFailure ? error.cause : error;
  if (cause instanceof DifyEsError) return PASSING.has(cause.code) ? 'again' : 'stop';
  if (cause instanceof TypeError || cause instanceof RangeError || cause instanceof ReferenceError) return 'stop';
  if (error instanceof PublishFailure) return 'again';
  const code = (cause as { code?: unknown } | null)?.code;
  if (typeof code === 'string') {
    if (CHANGED_STATES.has(code)) return 'describe';
    if (PASSING_STATES.test(code) || code.startsWith('E')) return 'again';
  }
  return sessionDead ? 'again' : 'stop';
}

/** What a log line says of an error: its code or name. Messages and details of servers may quote values. */
export function reasonOf(error: unknown): string {
  const cause = error instanceof PublishFailure ? error.cause : error;
  const { code, type, name } = (cause ?? {}) as { code?: unknown; type?: unknown; name?: unknown };
  return String(code ?? type ?? name ?? 'unknown');
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;

export function pauseMs(failures: number): number {
  return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 10));
}

/** Returns early, without an error, when the signal comes. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}
