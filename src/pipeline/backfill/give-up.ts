import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Publisher } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import type { BackfillMember, ControlLog } from '../../core/state.ts';
import { stateKeys } from '../../core/state.ts';

/** The transactional writers of the backfill: each process has its own, none is ever used by two. */
export interface Writers {
  /** The transactional.id of worker `index` of a process. */
  readonly idOf: (memberId: string, index: number) => string;
  /** Its first transaction takes the id over: whoever wrote with it before is fenced. */
  readonly open: (transactionalId: string) => Promise<Publisher>;
}

const ATTEMPTS = 20;
const PASSING: ReadonlySet<string> = new Set(['KAFKA_FENCED', 'KAFKA_UNREACHABLE']);
const PAUSE_MS = 100;

/**
 * Takes the segments away from processes that are gone, or seem to be. In this order:
 *
 * 1. Their records say so. A process that has not written yet claims its writers first and looks at its record after
 *    that, so it either sees this, or has claimed before step 2.
 * 2. Each of their writers is fenced, which ends what it had open. From here on nothing of theirs can be committed, and
 *    what was committed is on the topic.
 * 3. Their records go: only now are their segments free.
 *
 * Killed anywhere in between, or done by two at once, it is done again by whoever looks next.
 */
export async function giveUp(control: ControlLog, writers: Writers, members: readonly BackfillMember[], logger: Logger): Promise<void> {
  if (members.length === 0) return;
  const keyOf = ({ runId, memberId }: BackfillMember): string => stateKeys.member(runId, memberId);
  const there = (member: BackfillMember): BackfillMember | undefined => control.get<BackfillMember>(keyOf(member));
  const marked = await control.change(() => {
    const found = members.flatMap((member) => there(member) ?? []);
    return { writes: found.filter(({ givenUp }) => !givenUp).map((member) => [keyOf(member), { ...member, givenUp: true }] as const), result: found };
  });
  crashPoint('backfill.member-marked');
  const ids = new Map(marked.map((member) => [member, Array.from({ length: member.workers }, (_, index) => writers.idOf(member.memberId, index))]));
  await Promise.all([...ids.values()].flat().map((id) => fence(writers, id)));
  crashPoint('backfill.member-fenced');
  await control.change(() => ({
    writes: [...ids].filter(([member]) => there(member)).flatMap(([member, taken]) => [keyOf(member), stateKeys.beat(member.memberId), ...taken.map((id) => stateKeys.writer(id))].map((key) => [key, null] as const)),
    result: undefined,
  }));
  for (const { memberId, runId, segments } of marked) logger.warn({ memberId, runId, segments: segments.length }, 'backfill: a process is gone, its ranges are taken over');
}

/** Again when its holder, or another who fences it too, came in between: then that one's claim is what failed. And after a cut connection. */
async function fence(writers: Writers, id: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const publisher = await writers.open(id);
    try {
      return await (await publisher.begin()).abort();
    } catch (error) {
      if (!(error instanceof DifyEsError) || !PASSING.has(error.code) || attempt === ATTEMPTS) throw error;
      await sleep(Math.random() * PAUSE_MS);
    } finally {
      await publisher.close();
    }
  }
}
