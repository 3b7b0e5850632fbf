import { readEnvironment } from '../config/config.ts';
import { DifyEsError } from '../core/errors.ts';
import { readCommandLine, wantsJson } from './command-line.ts';
import { createLogger } from './logger.ts';
import { createOutput } from './output.ts';
import { VERBS } from './verbs.ts';

/** Whoever sent the signal counts ten seconds from there. */
const STOP_WITHIN_MS = 8_000;

/** Runs one command line and returns its exit code: 0 done, 1 no, 2 usage or configuration, 3 a server is away. */
async function main(argv: readonly string[]): Promise<number> {
  const json = wantsJson(argv);
  try {
    const line = readCommandLine(argv, () => readEnvironment(process.env), VERBS);
    if (line === null) return 0;
    const { verb, options, config } = line;
    return await verb.run({ config, out: createOutput(json), log: createLogger(config.program.logLevel, verb.name), signal: onTermination(json) }, options);
  } catch (error) {
    return report(error, json);
  }
}

/** Aborted by SIGTERM and SIGINT. Whatever still hangs then is in somebody else's hands; every acknowledged step is durable already. */
function onTermination(json: boolean): AbortSignal {
  const stop = new AbortController();
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(130);
    stop.abort();
    setTimeout(() => process.exit(report(new DifyEsError('STOPPED', 'stopped; a server did not answer, so not everything was closed'), json)), STOP_WITHIN_MS).unref();
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  return stop.signal;
}

function report(error: unknown, json: boolean): number {
  const known = error instanceof DifyEsError ? error : new DifyEsError('INTERNAL', error instanceof Error ? `${error.name}: ${error.message}` : 'unknown error', { cause: error });
  if (json) process.stdout.write(`${JSON.stringify({ error: { code: known.code, message: known.message, cure: known.cure } }, null, 2)}\n`);
  process.stderr.write(`${known.message.split('\n').map((line) => `dify-es: ${line}`).join('\n')}\n${known.cure}\n`);
  if (known.code === 'INTERNAL' && error instanceof Error && error.stack) process.stderr.write(`${error.stack}\n`);
  return known.exitCode;
}

// `| head` has read enough: what was done is done, and there is nobody to tell
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});
process.exitCode = await main(process.argv.slice(2));
// What does not fit into a pipe waits for its reader in this process: an answer of 150 kB ended in the middle without this.
await Promise.all([process.stdout, process.stderr].map((stream) => new Promise<void>((resolve) => stream.write('', () => resolve()))));
// kafkajs keeps timers after a disconnect; every verb has closed what it opened by now
process.exit();
