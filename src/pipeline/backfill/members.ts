import type { BackfillMember, BackfillRun, ControlLog } from '../../core/state.ts';
import { stateKeys } from '../../core/state.ts';

/*
 * The processes of a run and what belongs to whom. Pure: decided on the view that ControlLog.change gives.
 */

const MEMBERS = stateKeys.member('', '').slice(0, -1);

/** Of all runs, or of one. */
export function membersOf(control: Pick<ControlLog, 'entries'>, runId?: string): BackfillMember[] {
  const beginning = runId === undefined ? MEMBERS : stateKeys.member(runId, '');
  return control.entries<BackfillMember>(beginning).map(([, member]) => member);
}

/** Who ends the run once everything is read: one of those who can still write, the same for all who ask. */
export function endsRun(members: readonly BackfillMember[], memberId: string): boolean {
  const able = members.filter(({ givenUp }) => !givenUp).map((member) => member.memberId).sort();
  return able[0] === memberId;
}

/**
 * Whose writers must be fenced before somebody writes for `run` (undefined: for a run that is yet to be opened). Of the
 * run that is joined only those whose process is gone; of every other run all, since a zombie of a run that is over
 * would write rows of an older barrier.
 */
export function membersToGiveUp(members: readonly BackfillMember[], run: BackfillRun | undefined, isGone: (member: BackfillMember) => boolean): BackfillMember[] {
  return members.filter((member) => member.runId !== run?.runId || member.givenUp || isGone(member));
}

/** How much work a process takes at a time, in seconds: enough to be seldom asked, little enough that none waits for it at the end. */
const AHEAD_SECONDS = 3;

/** How many of the `free` segments a process takes now; at least one where there is one. */
export function batchOf({ free, members, workers, secondsPerSegment }: { free: number; members: number; workers: number; secondsPerSegment: number | undefined }): number {
  const ahead = secondsPerSegment === undefined ? workers : Math.ceil((workers * AHEAD_SECONDS) / Math.max(secondsPerSegment, 0.01));
  const fair = Math.ceil(free / Math.max(1, members));
  return Math.min(fair, Math.max(workers, ahead));
}
