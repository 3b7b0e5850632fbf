import { DifyEsError, type ErrorCode } from '../../core/errors.ts';

/** One part of the status: read, or why it cannot be read. A server that is away hides its own parts and no other. */
export type Part<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly code: ErrorCode; readonly message: string; readonly cure: string };

const LIMIT_MS = 15_000;

/** Never throws. What does not answer in time is told apart from nothing by its code. */
export async function readPart<T>(away: ErrorCode, read: () => Promise<T>, limitMs = LIMIT_MS): Promise<Part<T>> {
  const timer = Promise.withResolvers<never>();
  const timeout = setTimeout(() => timer.reject(new DifyEsError(away, `no answer within ${limitMs / 1000} s`)), limitMs);
  try {
    return { ok: true, value: await Promise.race([read(), timer.promise]) };
  } catch (error) {
    return failedPart(error);
  } finally {
    clearTimeout(timeout);
  }
}

export function failedPart(error: unknown): Extract<Part<never>, { ok: false }> {
  const known = error instanceof DifyEsError ? error : new DifyEsError('INTERNAL', error instanceof Error ? `${error.name}: ${error.message}` : 'unknown error');
  return { ok: false, code: known.code, message: known.message.split('\n', 1)[0]!, cure: known.cure };
}

/** A part that needs another one, which may have failed. */
export async function after<A, B>(part: Part<A>, read: (value: A) => Promise<Part<B>>): Promise<Part<B>> {
  return part.ok ? await read(part.value) : part;
}
