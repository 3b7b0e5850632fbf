import { Command, CommanderError, type Option } from 'commander';
import { loadConfig, requireEnabled, type Config } from '../config/config.ts';
import { DifyEsError } from '../core/errors.ts';
import type { Verb } from './verb.ts';

/** A command line that is whole: its flags were read and the configuration is valid; nothing has been touched. */
export interface CommandLine {
  readonly verb: Verb;
  readonly options: unknown;
  readonly config: Config;
}

type Environment = Readonly<Record<string, string | undefined>>;

const PROGRAM = 'Moves the workflow logs of Dify from PostgreSQL to Elasticsearch, with zero downtime.';
const AFTER_HELP = '\nExit codes: 0 done · 1 the answer is no · 2 usage or configuration · 3 a server cannot be reached\nConfiguration: environment and .env; .env.example has a line for each variable.';

/** Whether the answer is asked for as JSON; to be known before the flags are read, since their faults are answers too. */
export function wantsJson(argv: readonly string[]): boolean {
  return flagsOf(argv).includes('--json');
}

/**
 * Reads the flags and the configuration. Null when help was asked for and has been shown. Throws USAGE with every fault
 * of both, one a line, and DISABLED for a verb that writes while ELASTICSEARCH_ENABLED is false.
 */
export function readCommandLine(argv: readonly string[], environment: () => Environment, verbs: readonly Verb[]): CommandLine | null {
  const faults: string[] = [];
  const found = parse(argv, verbs, faults);
  if (found === 'help') return null;
  const options = found && found.verb.read(flagsOfVerb(found.command, argv, faults), faults);
  const config = tryConfig(environment, faults);
  if (faults.length > 0 || !found || !config) throw new DifyEsError('USAGE', faults.join('\n'));
  if (found.verb.writes) requireEnabled(config);
  return { verb: found.verb, options, config };
}

interface Chosen {
  readonly verb: Verb;
  readonly command: Command;
}

/** The verb with its flags taken apart; undefined after a fault. */
function parse(argv: readonly string[], verbs: readonly Verb[], faults: string[]): Chosen | 'help' | undefined {
  let chosen: Chosen | undefined;
  let asked = false;
  const program = new Command('dify-es')
    .description(PROGRAM)
    .exitOverride()
    .showSuggestionAfterError()
    // its faults become ours, so that a user sees them together with every other one
    .configureOutput({ outputError: () => {} })
    .addHelpText('after', AFTER_HELP);
  for (const verb of verbs) {
    const command = program.command(verb.name).description(verb.summary).exitOverride();
    verb.declare(command);
    command.option('--json', 'print the answer as JSON').allowUnknownOption().allowExcessArguments();
    for (const option of command.options) if (option.required) watch(command, option, faults);
    command.action(() => {
      chosen = { verb, command };
    });
  }
  try {
    program.parse([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    asked = error.exitCode === 0;
    if (!asked) faults.push(error.code === 'commander.help' ? 'which verb?' : error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' '));
  }
  return asked ? 'help' : chosen;
}

/**
 * Commander lets the last of two values win, so `cleanup-pg --tenant-id A --tenant-id B` would be about B alone; and it
 * takes the flag that follows for the value that was forgotten.
 */
function watch(command: Command, option: Option, faults: string[]): void {
  let given = 0;
  command.on(`option:${option.name()}`, (value: string | null) => {
    if (++given === 2 && !option.variadic) faults.push(`${option.long} is given twice`);
    if (value?.startsWith('--')) faults.push(`${option.long} has no value before ${value}`);
  });
}

/** The flags as `Verb.read` takes them; whatever the verb does not know becomes a fault. Behind `--` nothing is a flag. */
function flagsOfVerb(command: Command, argv: readonly string[], faults: string[]): Record<string, unknown> {
  const { args, registeredArguments: known } = command;
  const firstLiteral = args.length - (argv.length - flagsOf(argv).length - (argv.includes('--') ? 1 : 0));
  for (const [at, arg] of args.entries()) {
    if (at < firstLiteral && arg.startsWith('-')) faults.push(`unknown flag ${shown(arg.replace(/=.*$/s, ''))}`);
    else if (at >= known.length && known.at(-1)?.variadic !== true) faults.push(`unexpected argument ${shown(arg)}`);
  }
  return { ...command.opts(), args: command.processedArgs };
}

/** On one line; a password may stand before an @, and a value behind a flag that is none of ours. */
function shown(arg: string): string {
  return arg.includes('@') ? '(not shown: it may hold a password)' : /^--?[\w-]*$/.test(arg) ? arg : JSON.stringify(arg);
}

/** The part of the line in which flags are flags. */
function flagsOf(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf('--');
  return end === -1 ? argv : argv.slice(0, end);
}

/** The configuration, or undefined after its faults were added to the others. */
function tryConfig(environment: () => Environment, faults: string[]): Config | undefined {
  try {
    return loadConfig(environment());
  } catch (error) {
    if (!(error instanceof DifyEsError)) throw error;
    faults.push(...error.message.split('\n'));
    return undefined;
  }
}
