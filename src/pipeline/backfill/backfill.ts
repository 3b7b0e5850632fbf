import type { Publisher } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import type { BackfillRun, ControlLog } from '../../core/state.ts';
import { stateKeys } from '../../core/state.ts';
import { normalizeFilter } from './filter.ts';
import { joinRun, leaveRun, type Joined } from './join.ts';
import type { BackfillOptions, BackfillResult } from './options.ts';
import { Presence } from './presence.ts';
import { ReadSession } from './read-session.ts';
import { PublishFailure, reasonOf, remedyFor } from './retry.ts';
import { Run, timeLimit } from './run.ts';
import { allRuns } from './run-record.ts';

export type { BackfillOptions, BackfillResult } from './options.ts';

/** What closing may take at the end. */
const CLOSE_MS = 2000;
const LEAVE_MS = 1500;

/**
 * Reads what is in PostgreSQL into Kafka, alone or together with other processes: it opens a run, or takes its part in
 * the open run of the same filter. Returns when the whole run has ended, whoever ended it.
 *
 * Throws RUN_OPEN, CLEANUP_RUNNING, BARRIER_BLOCKED, TABLE_UNSUITABLE, RUN_VOID, KAFKA_FENCED and what `connect` and
 * `writers` throw. After an error or a stop the run stays open and the same call goes on with it.
 */
export async function runBackfill(options: BackfillOptions): Promise<BackfillResult> {
  const filter = normalizeFilter(options.filter);
  // The lock before the run record: where cleanup-pg holds it nothing must be left open.
  const session = await ReadSession.open(options.connect);
  const opened: Publisher[] = [];
  let presence: Presence | undefined;
  let joined: Joined | undefined;
  let run: Run | undefined;
  try {
    presence = await Presence.hold(session, options.connect);
    joined = await joinRun(options, filter, session, presence, opened);
    run = new Run(options, joined, presence);
    return await run.read(session);
  } catch (error) {
    if (options.signal.aborted && (error as Error).name === 'AbortError') throw new DifyEsError('STOPPED', 'stopped while it waited for the barrier');
    if (error instanceof PublishFailure) throw error.cause;
    // Before the first chunk nothing is tried again: a server that goes away at the barrier ends the verb with its cure.
    if (session.dead && remedyFor(error, true) === 'again') throw new DifyEsError('PG_UNREACHABLE', `PostgreSQL went away (${reasonOf(error)})`, { cause: error });
    throw error;
  } finally {
    const closed = await Promise.race([Promise.all(opened.map((publisher) => publisher.close())).then(() => true, () => false), timeLimit(CLOSE_MS)]);
    // Else our record stays, and whoever comes next fences our writers before anything else.
    if (run?.clean && closed && joined) await Promise.race([leaveRun(options, joined.member).catch(() => undefined), timeLimit(LEAVE_MS)]);
    presence?.close();
    session.close();
  }
}

/**
 * Voids the open runs, whatever their filter, so that another one can begin. A migrate that is still reading for one
 * notices before its next chunk. Returns the run ids.
 */
export async function abandonRuns(control: ControlLog): Promise<string[]> {
  await control.refresh();
  const open = (): BackfillRun[] => allRuns(control).filter((run) => run.state === 'open');
  if (open().length === 0) return [];
  return control.change(() => ({
    writes: open().map((run) => [stateKeys.run(run.runId), { ...run, state: 'void', endedAt: new Date().toISOString() } satisfies BackfillRun]),
    result: open().map((run) => run.runId),
  }));
}
