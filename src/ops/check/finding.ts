export type ServerName = 'postgresql' | 'kafka' | 'elasticsearch';

/** `warn`: it works, and somebody should know. `fail`: setup, the reader or the sinks would not work, or would do harm. */
export type Level = 'ok' | 'warn' | 'fail';

/**
 * One thing that was looked at. A finding is not a failure to look: a bad state of a server is an answer. Never a row's
 * value, never a secret.
 */
export interface Finding {
  readonly level: Level;
  /** Two or three words that stay the same whatever was found, for scripts. */
  readonly subject: string;
  readonly message: string;
  /** What to do, in words or as a command; null when all is well. */
  readonly cure: string | null;
}

export function ok(subject: string, message: string): Finding {
  return { level: 'ok', subject, message, cure: null };
}

export function warn(subject: string, message: string, cure: string): Finding {
  return { level: 'warn', subject, message, cure };
}

export function fail(subject: string, message: string, cure: string): Finding {
  return { level: 'fail', subject, message, cure };
}

/** `12.3 GB`, in powers of 1024, as the settings of PostgreSQL and Kafka are written. */
export function size(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[power]}`;
}
