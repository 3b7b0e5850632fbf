import type { RetentionRecord } from '../../core/state.ts';
import type { IndexInfo } from '../validate/documents.ts';

/** What a call of retention drops. */
export interface RetentionPlan {
  readonly indices: readonly IndexInfo[];
  /** One for each tenant that loses an index: rows of that month and before are not indexed again. */
  readonly boundaries: readonly RetentionRecord[];
}

/**
 * The oldest month that stays: the first whose last moment is not older than `days` days. Months are UTC and dropped as a
 * whole, so a row stays for up to a month longer than the days say, never shorter.
 */
export function oldestKeptMonth(now: Date, days: number): string {
  const edge = new Date(now.getTime() - days * 86_400_000);
  return `${edge.getUTCFullYear()}.${String(edge.getUTCMonth() + 1).padStart(2, '0')}`;
}

/** Of our own indices those whose whole month is older; a boundary never goes back. */
export function planRetention(indices: readonly IndexInfo[], known: ReadonlyMap<string, RetentionRecord>, now: Date, days: number): RetentionPlan {
  const kept = oldestKeptMonth(now, days);
  const expired = indices.filter(({ parts }) => parts.month < kept).sort((a, b) => (a.name < b.name ? -1 : 1));
  const boundaries = [...Map.groupBy(expired, ({ parts }) => parts.tenantId)].flatMap(([tenantId, some]): RetentionRecord[] => {
    const throughMonth = some.map(({ parts }) => parts.month).reduce((a, b) => (a > b ? a : b));
    const before = known.get(tenantId);
    return before && before.throughMonth >= throughMonth ? [] : [{ tenantId, throughMonth, at: now.toISOString() }];
  });
  return { indices: expired, boundaries };
}
