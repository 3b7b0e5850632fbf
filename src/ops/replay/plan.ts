import type { TableName } from '../../core/contracts.ts';
import { endKey } from '../../pipeline/kafka/group-lag.ts';

/** From where the topics are read again. */
export type ReplayStart =
  | { readonly kind: 'beginning' }
  | { readonly kind: 'time'; readonly timeMs: number }
  | { readonly kind: 'offsets'; readonly offsets: readonly OffsetChoice[] };

/** `table` is null where the command line named none: then there must be one table only. */
export interface OffsetChoice {
  readonly table: TableName | null;
  readonly partition: number;
  readonly offset: bigint;
}

/** A partition as it is now. `atTime`: the first offset at or after the time asked for; null where none was. */
export interface PartitionState {
  readonly table: TableName;
  readonly partition: number;
  readonly beginning: bigint;
  readonly end: bigint;
  /** Where the group goes on; the beginning where it never committed. */
  readonly position: bigint;
  readonly atTime: bigint | null;
}

export interface ReplayStep {
  readonly table: TableName;
  readonly partition: number;
  readonly from: bigint;
  readonly end: bigint;
  readonly position: bigint;
}

export interface ReplayPlan {
  /** Each partition of the tables, whether it is rewound or not: all are followed to their ends. */
  readonly steps: readonly ReplayStep[];
  readonly faults: readonly string[];
}

/**
 * Where each partition is to be read from. Never ahead of where the group is: what lies between would be lost. Markers
 * and what compaction took away take offsets too, so the difference to the end is an upper bound of the records.
 */
export function planReplay(start: ReplayStart, partitions: readonly PartitionState[]): ReplayPlan {
  const faults: string[] = [];
  const chosen = start.kind === 'offsets' ? chooseOffsets(start.offsets, partitions, faults) : undefined;
  const steps = partitions.map(({ table, partition, beginning, end, position, atTime }): ReplayStep => {
    const wanted = chosen ? (chosen.get(endKey(table, partition)) ?? position) : start.kind === 'time' ? (atTime ?? end) : beginning;
    return { table, partition, from: wanted < position ? wanted : position, end, position };
  });
  return { steps, faults };
}

function chooseOffsets(choices: readonly OffsetChoice[], partitions: readonly PartitionState[], faults: string[]): Map<string, bigint> {
  const tables = [...new Set(partitions.map(({ table }) => table))];
  const chosen = new Map<string, bigint>();
  for (const { table: named, partition, offset } of choices) {
    const table = named ?? (tables.length === 1 ? tables[0] : undefined);
    const text = `--from-offset ${named === null ? '' : `${named}:`}${partition}:${offset}`;
    const state = partitions.find((one) => one.table === table && one.partition === partition);
    if (table === undefined) faults.push(`${text}: of which table? Write TABLE:PARTITION:OFFSET, or name one --table`);
    else if (!tables.includes(table)) faults.push(`${text}: ${table} is not among the chosen tables`);
    else if (!state) faults.push(`${text}: ${table} has no partition ${partition}`);
    else if (offset < state.beginning || offset > state.end) faults.push(`${text}: the partition holds the offsets ${state.beginning} to ${state.end}`);
    else if (offset > state.position) faults.push(`${text}: the sinks are at ${state.position}, and what lies between would be skipped`);
    else if (chosen.has(endKey(table, partition))) faults.push(`${text}: ${table} ${partition} is named twice`);
    else chosen.set(endKey(table, partition), offset);
  }
  return chosen;
}

export interface TableSpan {
  readonly table: TableName;
  readonly partitions: number;
  /** At most so many records are read anew. */
  readonly again: bigint;
  /** At most so many are read in all: those that the sinks had still before them come on top. */
  readonly total: bigint;
}

export function spansOf(steps: readonly ReplayStep[]): TableSpan[] {
  return [...Map.groupBy(steps, ({ table }) => table)].map(([table, some]) => ({
    table,
    partitions: some.filter(({ from, position }) => from < position).length,
    again: some.reduce((sum, { from, position }) => sum + position - from, 0n),
    total: some.reduce((sum, { from, end }) => sum + (end > from ? end - from : 0n), 0n),
  }));
}
