/** The SQLSTATE of a server's error, or undefined for any other failure. */
function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/** lock_not_available (lock_timeout) or deadlock_detected: nothing happened, and the next try may succeed. */
export function isRetriableLock(error: unknown): boolean {
  return ['55P03', '40P01'].includes(sqlState(error) ?? '');
}
