import type { Verb } from './verb.ts';

/** In the order of the operator's journey, which is the order of --help. */
export const VERBS: readonly Verb[] = [];
