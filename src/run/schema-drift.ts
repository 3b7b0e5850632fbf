import type { RowShape } from '../core/contracts.ts';
import { stateKeys, type ColumnsRecord, type ControlLog } from '../core/state.ts';

export interface Drift {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** The columns a table has now against those it had when its rows were last known to be right. Their order says nothing. */
export function driftOf(control: Pick<ControlLog, 'get'>, { table, columns }: RowShape): 'first' | 'same' | Drift {
  const recorded = control.get<ColumnsRecord>(stateKeys.columns(table));
  if (!recorded) return 'first';
  const before = new Set(recorded.columns);
  const now = new Set(columns);
  const added = columns.filter((column) => !before.has(column));
  const removed = recorded.columns.filter((column) => !now.has(column));
  return added.length + removed.length === 0 ? 'same' : { added, removed };
}

export async function recordColumns(control: Pick<ControlLog, 'put'>, { table, columns }: RowShape): Promise<void> {
  await control.put(stateKeys.columns(table), { table, columns, at: new Date().toISOString() } satisfies ColumnsRecord);
}
