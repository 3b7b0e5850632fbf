/**
 * Waits for the signal and then stops, or stops because one of the parts has failed, and throws the first error there
 * was, also one that came up while stopping. A part that ends by itself without an error ends all.
 */
export async function untilStopped(signal: AbortSignal, parts: readonly Promise<unknown>[], stop: () => Promise<void>): Promise<void> {
  let failure: unknown;
  const ended = parts.map((part) => part.catch((error: unknown) => void (failure ??= error)));
  const stopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await Promise.race([stopped, ...ended]);
  await stop();
  if (failure !== undefined) throw failure;
}
