import type { Command } from 'commander';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import type { Output } from './output.ts';

/** What every verb is given: the configuration is whole and checked, nothing has been touched yet. */
export interface VerbContext {
  readonly config: Config;
  readonly out: Output;
  /** JSON lines on standard error (readable ones on a terminal). Never a row's values, never a secret. */
  readonly log: Logger;
  /** Aborted by SIGTERM or SIGINT: the verb ends what it has begun and returns within 10 s. */
  readonly signal: AbortSignal;
}

/**
 * 0 done, 1 the answer is no. 2 and 3 are thrown as DifyEsError; 3 is returned only by a verb whose answer says which
 * server is away (check, status).
 */
export type Answer = 0 | 1 | 3;

/**
 * One verb of the program, one file in src/cli.
 *
 * `read` turns the flags into what `run` takes and pushes a line for every fault it finds, so that a user sees all of
 * them at once, together with those of the configuration, before anything is touched.
 */
export interface Verb<Options = unknown> {
  readonly name: string;
  readonly summary: string;
  /** Refuses while ELASTICSEARCH_ENABLED is false. */
  readonly writes: boolean;
  readonly declare: (command: Command) => void;
  readonly read: (flags: Readonly<Record<string, unknown>>, faults: string[]) => Options;
  readonly run: (context: VerbContext, options: Options) => Promise<Answer>;
}

/** Keeps the types of `read` and `run` together. */
export function defineVerb<Options>(verb: Verb<Options>): Verb {
  return verb as Verb;
}
