import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Publisher } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { formatLsn } from '../../core/lsn.ts';
import type { BackfillFilter, BackfillMember, BackfillRun } from '../../core/state.ts';
import { stateKeys } from '../../core/state.ts';
import { takeBarrier } from './barrier.ts';
import { filterSql, otherRunOpen } from './filter.ts';
import { giveUp } from './give-up.ts';
import { membersOf, membersToGiveUp } from './members.ts';
import type { BackfillOptions } from './options.ts';
import type { Presence } from './presence.ts';
import type { ReadSession } from './read-session.ts';
import { allRequired, allRuns, assertMember, decideStart } from './run-record.ts';
import { planTable, type PlannedTable } from './table-plan.ts';

const CLAIM_ATTEMPTS = 4;
const CLAIM_PAUSE_MS = 300;

/** This process as one that reads for an open run. */
export interface Joined {
  readonly run: BackfillRun;
  /** False for the process that opened the run. */
  readonly resumed: boolean;
  readonly member: BackfillMember;
  /** One for each worker; every one is claimed already. */
  readonly publishers: readonly Publisher[];
  /** What the opener has planned; those who come later plan by the run's record. */
  readonly planned: readonly PlannedTable[];
}

interface NewRun {
  readonly run: BackfillRun;
  readonly planned: readonly PlannedTable[];
}

/**
 * Opens a run, or joins the open one of the same filter. Several that come at the same moment agree on one run and its
 * barrier. Nobody's writer that could still append rows of another run, or for a process that is gone, is left.
 *
 * `opened` gets every publisher, also when this throws. Throws RUN_OPEN before anything is fenced, and BARRIER_BLOCKED.
 */
export async function joinRun(options: BackfillOptions, filter: BackfillFilter, session: ReadSession, presence: Presence, opened: Publisher[]): Promise<Joined> {
  const { control, source, writers, workers, logger } = options;
  const memberId = randomUUID();
  const decide = () => decideStart(allRuns(control), filter, source, allRequired(control));
  let fresh: NewRun | undefined;
  await control.refresh();
  for (;;) {
    const found = decide();
    // Before anything is fenced: the open run may be alive.
    if (found.kind === 'refuse') throw otherRunOpen(found.open.filter);
    // Records before locks: whoever is recorded took its lock before that, so one that is not held now was let go.
    const members = membersOf(control);
    const held = await presence.held();
    await giveUp(control, writers, membersToGiveUp(members, found.kind === 'resume' ? found.run : undefined, ({ lock }) => !held.has(lock)), logger);
    // Taken before it is known whether somebody else is quicker: it may wait for minutes, and a change may not.
    if (found.kind === 'new') fresh ??= await newRun(options, filter, session);

    const joined = await control.change(() => {
      const now = decide();
      if (now.kind === 'refuse') throw otherRunOpen(now.open.filter);
      const run = now.kind === 'resume' ? now.run : fresh?.run;
      const strangers = membersOf(control).filter((member) => member.runId !== run?.runId);
      if (!run || strangers.length > 0) return { writes: [], result: undefined };
      const member: BackfillMember = { memberId, runId: run.runId, workers, lock: presence.lock, segments: [], givenUp: false, at: new Date().toISOString() };
      const voided = now.voided.map((one) => [stateKeys.run(one.run.runId), { ...one.run, state: 'void', endedAt: new Date().toISOString() } satisfies BackfillRun] as const);
      return {
        writes: [...voided, ...(now.kind === 'new' ? [[stateKeys.run(run.runId), run] as const] : []), [stateKeys.member(run.runId, memberId), member] as const],
        result: { run, member, voided: now.voided },
      };
    });
    if (!joined) continue;
    for (const { run, reason } of joined.voided) logger.warn({ runId: run.runId, reason }, 'backfill: an open run is void');
    crashPoint('backfill.run-recorded');
    const ours = joined.run.runId === fresh?.run.runId;
    return { run: joined.run, resumed: !ours, member: joined.member, publishers: await claimWriters(options, joined.member, opened), planned: ours ? fresh!.planned : [] };
  }
}

/**
 * Takes our own transactional.ids before anything is written with them, and looks after that whether we were given up
 * meanwhile: a process that stood still between its record and its first transaction would otherwise take a writer back
 * from whoever fenced it.
 */
async function claimWriters({ control, writers }: BackfillOptions, member: BackfillMember, opened: Publisher[]): Promise<Publisher[]> {
  const claimed = await Promise.all(Array.from({ length: member.workers }, async (_, index) => {
    const publisher = await writers.open(writers.idOf(member.memberId, index));
    opened.push(publisher);
    await claim(publisher);
    return publisher;
  }));
  await control.refresh();
  assertMember(control, member);
  return claimed;
}

/** Again where a connection was cut: nothing is read yet, and a broker that stays away has been waited for by the client itself. */
async function claim(publisher: Publisher): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await (await publisher.begin()).abort();
    } catch (error) {
      if (!(error instanceof DifyEsError) || error.code !== 'KAFKA_UNREACHABLE' || attempt === CLAIM_ATTEMPTS) throw error;
      await sleep(CLAIM_PAUSE_MS);
    }
  }
}

async function newRun(options: BackfillOptions, filter: BackfillFilter, session: ReadSession): Promise<NewRun> {
  const { source, schema, barrierTimeoutMs, signal, onBlocked } = options;
  const barrier = await takeBarrier(session, { timeoutMs: barrierTimeoutMs, signal, ...(onBlocked ? { onBlocked } : {}) });
  const planned: PlannedTable[] = [];
  for (const table of filter.tables) {
    const one = await planTable(session, schema, table, filterSql(filter));
    if (one) planned.push(one);
  }
  const tables = Object.fromEntries(planned.map(({ source: { table }, plan }) => [table, plan]));
  return {
    run: { runId: randomUUID(), state: 'open', epoch: source.epoch, slot: source.slot, barrierLsn: formatLsn(barrier), filter, tables, startedAt: new Date().toISOString(), endedAt: null },
    planned,
  };
}

/** Our writers are closed and all they began has ended: our ranges are free at once, and nobody need fence us. */
export async function leaveRun({ control, writers }: BackfillOptions, { runId, memberId, workers }: BackfillMember): Promise<void> {
  const names = Array.from({ length: workers }, (_, index) => stateKeys.writer(writers.idOf(memberId, index)));
  await control.change(() => ({ writes: [stateKeys.member(runId, memberId), stateKeys.beat(memberId), ...names].map((key) => [key, null]), result: undefined }));
}
