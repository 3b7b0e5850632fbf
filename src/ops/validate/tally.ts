import { TABLES, type TableName } from '../../core/contracts.ts';

/**
 * `missing`: the row has no document. `stale`: its document has other content. `extra`: a document without a row.
 * `wrong-index`: the document of a row that is in another index than the row's tenant and month say.
 */
export const DIFFERENCE_CLASSES = ['missing', 'stale', 'extra', 'wrong-index'] as const;
export type DifferenceClass = (typeof DIFFERENCE_CLASSES)[number];

/** Ids and names; never a value of a row. */
export interface Difference {
  readonly class: DifferenceClass;
  readonly table: TableName;
  readonly tenantId: string;
  /** `YYYY.MM` of the index named. */
  readonly month: string;
  readonly id: string;
  /** Where the document is, or for a missing one should be. */
  readonly index: string;
  /** wrong-index only: where the row says it belongs. */
  readonly belongsIn?: string;
  /** wrong-index only: true when the right index has no document of the row either. */
  readonly missingThere?: boolean;
  /** stale only: names of the fields that differ. */
  readonly fields?: readonly string[];
}

/** Rows and documents that are no difference, each with its reason. */
export const APART = ['switched', 'expired', 'archived', 'kept-by-policy', 'dify-own', 'accepted', 'no-month', 'bad-key'] as const;
export type Apart = (typeof APART)[number];

export type GroupCounts = { rows: number; documents: number } & Record<DifferenceClass, number>;

export interface Group extends Readonly<GroupCounts> {
  readonly table: TableName;
  readonly tenantId: string;
  readonly month: string;
}

/** Differences that are listed one by one; the counts go on behind it, so memory does not grow with what is wrong. */
const LISTED = 1000;

/** Counts by table, tenant and month. Its size is that of the list of indices, whatever the tables hold. */
export class Tally {
  readonly differences: Difference[] = [];
  readonly apart: Record<Apart, number> = Object.fromEntries(APART.map((name) => [name, 0])) as Record<Apart, number>;
  /** Still changing after the last look: neither equal nor different. */
  inFlight = 0;
  private readonly byGroup = new Map<string, Group & GroupCounts>();
  private readonly listed: number;

  constructor(listed = LISTED) {
    this.listed = listed;
  }

  row(table: TableName, tenantId: string, month: string): void {
    this.group(table, tenantId, month).rows++;
  }

  documents(table: TableName, tenantId: string, month: string, count: number): void {
    this.group(table, tenantId, month).documents += count;
  }

  difference(difference: Difference): void {
    this.group(difference.table, difference.tenantId, difference.month)[difference.class]++;
    if (this.differences.length < this.listed) this.differences.push(difference);
  }

  /** By table, tenant and month. */
  groups(): Group[] {
    const sorted = [...this.byGroup.keys()].sort().map((key) => this.byGroup.get(key)!);
    return TABLES.flatMap((table) => sorted.filter((group) => group.table === table));
  }

  totals(): GroupCounts {
    const sum = emptyCounts();
    for (const group of this.byGroup.values()) for (const key of Object.keys(sum) as (keyof GroupCounts)[]) sum[key] += group[key];
    return sum;
  }

  private group(table: TableName, tenantId: string, month: string): Group & GroupCounts {
    const key = `${table}/${tenantId}/${month}`;
    let group = this.byGroup.get(key);
    if (!group) this.byGroup.set(key, (group = { table, tenantId, month, ...emptyCounts() }));
    return group;
  }
}

function emptyCounts(): GroupCounts {
  return { rows: 0, documents: 0, missing: 0, stale: 0, extra: 0, 'wrong-index': 0 };
}
