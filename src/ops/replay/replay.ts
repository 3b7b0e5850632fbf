import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import type { TableName } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { stateKeys } from '../../core/state.ts';
import { endKey, openGroupLag, startOf, type Ends, type GroupLag } from '../../pipeline/kafka/group-lag.ts';
import { groupMembers, offsetsAtTime, setGroupPositions } from '../../pipeline/kafka/group-rewind.ts';
import { createPartitionReader } from '../../pipeline/kafka/partition-reader.ts';
import type { Platform } from '../../run/platform.ts';
import { startSink, type SinkRun } from '../../run/sink.ts';
import { planReplay, type PartitionState, type ReplayPlan, type ReplayStart, type ReplayStep } from './plan.ts';

export interface ReplayProgress {
  readonly done: bigint;
  readonly total: bigint;
}

const POLL_MS = 500;
/** Somebody starts the sinks by hand. */
const UNATTENDED_MS = 300_000;

/** Looks at the topics and says what would be read. Throws USAGE with every fault, KAFKA_TOPIC_MISSING, KAFKA_UNREACHABLE. */
export async function prepareReplay(config: Config, { kafka, names }: Platform, start: ReplayStart, tables: readonly TableName[]): Promise<ReplayPlan> {
  const lag = await openGroupLag(kafka, names, config.kafka.group, tables);
  const reader = createPartitionReader(kafka);
  try {
    await reader.connect(tables.map((table) => names.table[table]));
    const states: PartitionState[] = [];
    const positions = await lag.lag();
    for (const table of tables) {
      const beginnings = await reader.offsets(names.table[table], 'beginning');
      const times = start.kind === 'time' ? await offsetsAtTime(kafka, names.table[table], start.timeMs) : null;
      for (const { partition, committed, end } of positions.filter((one) => one.table === table)) {
        const beginning = beginnings.get(partition) ?? 0n;
        states.push({ table, partition, beginning, end, position: startOf(committed, beginning, end), atTime: times?.get(partition) ?? null });
      }
    }
    const plan = planReplay(start, states);
    if (plan.faults.length > 0) throw new DifyEsError('USAGE', plan.faults.join('\n'));
    return plan;
  } finally {
    await Promise.allSettled([lag.close(), reader.close()]);
  }
}

/** Throws GROUP_BUSY with the members' addresses before anything is touched. */
export async function refuseWithMembers(config: Config, { kafka }: Platform): Promise<void> {
  const members = await groupMembers(kafka, config.kafka.group);
  if (members.length > 0) throw new DifyEsError('GROUP_BUSY', `the consumer group ${config.kafka.group} has ${members.length} members, on ${[...new Set(members)].join(', ')}`);
}

/** Sets the group back. Throws GROUP_BUSY, and then nothing was changed. */
export async function rewind(config: Config, { kafka, names }: Platform, steps: readonly ReplayStep[]): Promise<void> {
  const back = steps.filter(({ from, position }) => from < position);
  if (back.length === 0) return;
  await setGroupPositions(kafka, config.kafka.group, back.map(({ table, partition, from }) => ({ topic: names.table[table], partition, offset: from })));
}

export interface FollowOptions {
  readonly config: Config;
  readonly platform: Platform;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** A sink in this process; `over-switched` writes the documents of switched tenants too. */
  readonly sink: 'none' | 'run' | 'over-switched';
  readonly onProgress: (progress: ReplayProgress) => void;
}

/**
 * Returns when every record below the ends of the plan is settled. Throws REPLAY_UNFINISHED at the signal, or when
 * nobody is in the group for five minutes; the group stays where it is in both cases, and any sink goes on from there.
 */
export async function follow(steps: readonly ReplayStep[], { config, platform, log, signal, sink, onProgress }: FollowOptions): Promise<void> {
  const { kafka, names } = platform;
  const lag = await openGroupLag(kafka, names, config.kafka.group, [...new Set(steps.map(({ table }) => table))]);
  const member = sink === 'none' ? undefined : await startSink(config, platform, log, () => {}, { overSwitched: sink === 'over-switched' });
  try {
    await Promise.race([settled(steps, lag, () => groupMembers(kafka, config.kafka.group), signal, onProgress), failureOf(member)]);
  } finally {
    await Promise.allSettled([member?.stop(), lag.close()]);
  }
}

/** Looks until the group has passed the ends. Apart from `follow` for its tests. */
export async function settled(steps: readonly ReplayStep[], lag: Pick<GroupLag, 'isDrainedTo' | 'lag'>, members: () => Promise<readonly string[]>, signal: AbortSignal, onProgress: FollowOptions['onProgress']): Promise<void> {
  const ends: Ends = new Map(steps.map(({ table, partition, end }) => [endKey(table, partition), end]));
  const total = steps.reduce((sum, { from, end }) => sum + end - from, 0n);
  let attendedAt = performance.now();
  while (!(await lag.isDrainedTo(ends))) {
    if (signal.aborted) throw new DifyEsError('REPLAY_UNFINISHED', 'stopped before the replay was through');
    onProgress({ done: progressOf(steps, await lag.lag()), total });
    if ((await members()).length > 0) attendedAt = performance.now();
    else if (performance.now() - attendedAt > UNATTENDED_MS) throw new DifyEsError('REPLAY_UNFINISHED', 'the group is set back, and no sink has joined it');
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
  onProgress({ done: total, total });
}

/** Offsets that the group has passed since it was set back. */
export function progressOf(steps: readonly ReplayStep[], lag: readonly { readonly table: TableName; readonly partition: number; readonly committed: bigint | null }[]): bigint {
  return steps.reduce((sum, { table, partition, from, end }) => {
    const at = lag.find((one) => one.table === table && one.partition === partition)?.committed ?? from;
    return sum + (at < from ? 0n : (at > end ? end : at) - from);
  }, 0n);
}

const failureOf = (member: SinkRun | undefined): Promise<never> => member?.failed ?? new Promise(() => {});

/** How many tenants a replay leaves as they are. */
export function switchedTenants({ state }: Platform): number {
  return state.control.entries(stateKeys.switched('')).length;
}
