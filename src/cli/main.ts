import { Command, CommanderError } from 'commander';
import { loadConfig, readEnvironment, requireEnabled, type Config } from '../config/config.ts';
import { DifyEsError } from '../core/errors.ts';
import { createLogger } from './logger.ts';
import { createOutput } from './output.ts';
import type { Verb } from './verb.ts';
import { VERBS } from './verbs.ts';

const STOP_WITHIN_MS = 10_000;

/** Runs one command line and returns its exit code: 0 done, 1 no, 2 usage or configuration, 3 a server is away. */
async function main(argv: readonly string[]): Promise<number> {
  const json = argv.includes('--json');
  try {
    return await runVerb(argv, json);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    return report(error, json);
  }
}

async function runVerb(argv: readonly string[], json: boolean): Promise<number> {
  let chosen: { verb: Verb; command: Command } | undefined;
  const program = new Command('dify-es')
    .description('Moves the workflow logs of Dify from PostgreSQL to Elasticsearch, with zero downtime.')
    .exitOverride()
    .showSuggestionAfterError()
    .addHelpText('after', '\nExit codes: 0 done · 1 the answer is no · 2 usage or configuration · 3 a server cannot be reached\nConfiguration: environment and .env; .env.example has a line for each variable.');
  for (const verb of VERBS) {
    const command = program.command(verb.name).description(verb.summary).exitOverride();
    verb.declare(command);
    // unknown flags are collected below, so that the user sees them together with every other fault
    command.option('--json', 'print the answer as JSON').allowUnknownOption().allowExcessArguments();
    command.action(() => {
      chosen = { verb, command };
    });
  }
  await program.parseAsync(argv, { from: 'user' });
  if (!chosen) return 2;

  const { verb, command } = chosen;
  const { registeredArguments: known } = command;
  const isKnown = (arg: string, at: number): boolean => !arg.startsWith('-') && (at < known.length || known.at(-1)?.variadic === true);
  const faults = command.args.filter((arg, at) => !isKnown(arg, at)).map((arg) => (arg.startsWith('-') ? `unknown flag ${arg}` : `unexpected argument ${JSON.stringify(arg)}`));
  const flags = { ...command.opts(), args: command.processedArgs };
  const options = verb.read(flags, faults);
  const config = tryConfig(faults);
  if (faults.length > 0 || !config) throw new DifyEsError('USAGE', faults.join('\n'));
  if (verb.writes) requireEnabled(config);

  const stop = new AbortController();
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(130);
    stop.abort();
    // whatever hangs by then is in somebody else's hands; every acknowledged step is durable already
    setTimeout(() => process.exit(1), STOP_WITHIN_MS).unref();
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  return await verb.run({ config, out: createOutput(json), log: createLogger(config.program.logLevel, verb.name), signal: stop.signal }, options);
}

/** The configuration, or undefined after its faults were added to the others. */
function tryConfig(faults: string[]): Config | undefined {
  try {
    return loadConfig(readEnvironment(process.env));
  } catch (error) {
    if (!(error instanceof DifyEsError)) throw error;
    faults.push(...error.message.split('\n'));
    return undefined;
  }
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
// kafkajs keeps timers after a disconnect; every verb has closed what it opened by now
process.exit();
