import { check } from './check.ts';
import { cleanupPg } from './cleanup-pg.ts';
import { console } from './console.ts';
import { cutover } from './cutover.ts';
import { dlq } from './dlq.ts';
import { migrate } from './migrate.ts';
import { replay } from './replay.ts';
import { retention } from './retention.ts';
import { run } from './run.ts';
import { search } from './search.ts';
import { setup } from './setup.ts';
import { sink } from './sink.ts';
import { status } from './status.ts';
import { stream } from './stream.ts';
import { teardown } from './teardown.ts';
import { trace } from './trace.ts';
import { validate } from './validate.ts';
import type { Verb } from './verb.ts';

/** In the order of the operator's journey, which is the order of --help. */
export const VERBS: readonly Verb[] = [check, setup, stream, sink, run, migrate, validate, status, dlq, replay, trace, search, console, cutover, retention, cleanupPg, teardown];
