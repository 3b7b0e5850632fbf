import { migrate } from './migrate.ts';
import { run } from './run.ts';
import { sink } from './sink.ts';
import { stream } from './stream.ts';
import type { Verb } from './verb.ts';

/** In the order of the operator's journey, which is the order of --help. */
export const VERBS: readonly Verb[] = [stream, sink, run, migrate];
