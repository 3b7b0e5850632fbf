import { createInterface } from 'node:readline/promises';

/**
 * Asks on the terminal and takes nothing but `yes`. Without a terminal the answer is no: a script says --yes, so that
 * nobody deletes by forgetting a flag.
 */
export async function confirm(question: string, signal: AbortSignal): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await terminal.question(`${question} Type yes: `, { signal })).trim() === 'yes';
  } catch {
    return false;
  } finally {
    terminal.close();
  }
}
