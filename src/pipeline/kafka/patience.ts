/**
 * Waits for something that must not hold up the end of the program: after `ms` it goes on without it. A connection to a
 * broker that does not answer waits for its pending requests, up to half a minute each. Never throws; true when it
 * ended in time, well or not.
 */
export async function withinMs(ms: number, action: Promise<unknown>): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(late.resolve, ms, false);
  try {
    return await Promise.race([action.then(() => true), late.promise]);
  } catch {
    return true; // whoever closes has no use for the reason
  } finally {
    clearTimeout(timer);
  }
}
