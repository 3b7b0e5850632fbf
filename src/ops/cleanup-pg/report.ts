import type { TableName } from '../../core/contracts.ts';

/**
 * Why a row stays in PostgreSQL. `missing`, `different`: Elasticsearch does not hold it with equal content. `changed`: it
 * was written, locked or deleted by somebody after it was looked at. `has-children`: rows of it (nodes, logs, offload) stay.
 * `unfinished`: its run or node is not at its end, and Dify may still write it.
 */
const STAYED = ['missing', 'different', 'dead-lettered', 'changed', 'unfinished', 'has-children', 'expired', 'no-index'] as const;
export type Stayed = (typeof STAYED)[number];

export interface TableCounts {
  readonly table: TableName;
  /** Rows before the date that were looked at. */
  looked: number;
  /** Deleted; with --dry-run: that would have been. */
  deleted: number;
  readonly stayed: Record<Stayed, number>;
}

export interface CleanupReport {
  /** Null with --dry-run. */
  readonly runId: string | null;
  readonly tenantId: string;
  readonly before: string;
  readonly dryRun: boolean;
  readonly switched: boolean;
  readonly tables: readonly TableCounts[];
}

export function emptyCounts(table: TableName): TableCounts {
  return { table, looked: 0, deleted: 0, stayed: Object.fromEntries(STAYED.map((why) => [why, 0])) as Record<Stayed, number> };
}

const WHY: Readonly<Record<Stayed, string>> = {
  missing: 'have no document',
  different: 'have a document of other content',
  'dead-lettered': 'have a dead letter (`dify-es dlq list`)',
  changed: 'were changed or locked while they were looked at: the next run looks again',
  unfinished: 'are running, paused, or of a status that this program does not know, or belong to such a run or node',
  'has-children': 'still have nodes, logs or offload rows in PostgreSQL',
  expired: 'are of a month that retention dropped from Elasticsearch',
  'no-index': 'have a key that names no document',
};

interface Lines {
  line(text?: string): void;
  table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void;
}

export function printCleanup({ tables, dryRun, switched }: CleanupReport, out: Lines): void {
  out.table(['table', 'rows before the date', dryRun ? 'would be deleted' : 'deleted', 'stay'], tables.map(({ table, looked, deleted, stayed }) => [table, looked, deleted, sum(Object.values(stayed))]));
  for (const why of STAYED) {
    const count = sum(tables.map(({ stayed }) => stayed[why]));
    if (count > 0) out.line(`${count} rows stay: they ${WHY[why]}`);
  }
  if (!tables.some(({ stayed }) => stayed.missing + stayed.different > 0)) return;
  out.line(switched ? 'Elasticsearch is the truth of this tenant, so no repair sends missing and different rows: they stay; delete them by hand if they are to go' : '`dify-es validate --repair` sends missing and different rows again');
}

/** What an operator has to know before rows go. `withoutReplica`: of the tenant's indices. */
export function cleanupWarnings({ switched, indices, withoutReplica }: { readonly switched: boolean; readonly indices: number; readonly withoutReplica: number }): string[] {
  const readers = switched
    ? 'Dify must read from Elasticsearch for this tenant: a process that still reads PostgreSQL no longer shows these rows.'
    : "Dify's pages no longer show these rows: only Elasticsearch keeps the history.";
  const copies = withoutReplica > 0 ? ` ${withoutReplica} of ${indices} indices of the tenant have no replica now.` : '';
  return [
    readers,
    `Afterwards Elasticsearch holds the only copy: give the indices replicas (number_of_replicas) or take a snapshot of them first.${copies}`,
    'Make a backup of PostgreSQL first, as the migration guide asks (pg_dump of the four tables).',
    'Space returns to the system only after a table rewrite (VACUUM FULL, pg_repack); after a plain VACUUM PostgreSQL uses it for new rows.',
  ];
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
