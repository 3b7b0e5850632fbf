import { CONNECTORS } from '../../connector/registry.ts';
import type { TableName } from '../../core/contracts.ts';
import { parseLsn } from '../../core/lsn.ts';
import { monthOf, type RowKey } from '../../core/row-key.ts';
import { FIRST_OWN_VERSION, parseVersion, splitVersion } from '../../core/row-version.ts';
import { stateKeys, type ArchivedRecord, type ControlLog, type EpochRecord, type RetentionRecord, type SwitchedRecord, type TruncateRecord } from '../../core/state.ts';
import { indexOf, type IndexParts } from '../../pipeline/sink/index-name.ts';

/** Everything that makes the two ends differ on purpose. Pure data. */
export interface Boundaries {
  readonly prefix: string;
  readonly switched: ReadonlySet<string>;
  /** Tenant → last month (`YYYY.MM`) that retention dropped. */
  readonly retention: ReadonlyMap<string, string>;
  /** `{tenant}/{table}` → date before which cleanup-pg has emptied PostgreSQL. */
  readonly archived: ReadonlyMap<string, string>;
  /** `{table}/{id}` of rows that a person decided to leave out (`dlq accept`). */
  readonly accepted: ReadonlySet<string>;
  /** Under `ignore` no document is surplus: its row may have been deleted, and the policy keeps it. */
  readonly deletePolicy: 'apply' | 'ignore';
  /** Highest LSN of a TRUNCATE that was ignored, for each table that had one. */
  readonly truncatedAt: ReadonlyMap<TableName, bigint>;
  readonly epoch: number;
}

/** What should be in Elasticsearch for a row: one document, or nothing and why. */
export type RowExpectation = { readonly kind: 'document'; readonly index: string; readonly month: string } | { readonly kind: 'none'; readonly why: 'switched' | 'expired' | 'accepted' | 'no-month' | 'bad-key'; readonly month: string };

export function expectationOfRow(table: TableName, key: RowKey, known: Boundaries): RowExpectation {
  const month = monthOf(key.createdAt) ?? '-';
  if (known.switched.has(key.tenantId)) return { kind: 'none', why: 'switched', month };
  const index = indexOf(known.prefix, CONNECTORS[table], key);
  if (typeof index === 'string') return { kind: 'none', why: known.accepted.has(`${table}/${key.id}`) ? 'accepted' : index, month };
  if (month <= (known.retention.get(key.tenantId) ?? '')) return { kind: 'none', why: 'expired', month };
  if (known.accepted.has(`${table}/${key.id}`)) return { kind: 'none', why: 'accepted', month };
  return { kind: 'document', index: index.name, month };
}

/** A document without a row: surplus, or there for a reason. */
export type SurplusVerdict = 'extra' | 'switched' | 'dify-own' | 'expired' | 'archived' | 'kept-by-policy';

/**
 * `createdAt`: the document's own field (`2025-10-10T08:25:41.123456`), null where it has none. In doubt a document is
 * not extra, since extra ones may be deleted.
 */
export function verdictOfSurplus(where: Pick<IndexParts, 'connector' | 'tenantId' | 'month'>, version: bigint, createdAt: string | null, known: Boundaries): SurplusVerdict {
  const { table } = where.connector;
  if (known.switched.has(where.tenantId)) return 'switched';
  if (version < FIRST_OWN_VERSION) return 'dify-own';
  if (where.month <= (known.retention.get(where.tenantId) ?? '')) return 'expired';
  const archivedBefore = known.archived.get(`${where.tenantId}/${table}`);
  if (archivedBefore !== undefined && (createdAt ?? `${where.month.replace('.', '-')}-01`).replace('T', ' ') < archivedBefore) return 'archived';
  if (known.deletePolicy === 'ignore' || isBeforeTruncate(table, version, known)) return 'kept-by-policy';
  return 'extra';
}

/** LSNs of an older epoch do not compare with this one's, so a document of one counts as older than any TRUNCATE. */
function isBeforeTruncate(table: TableName, version: bigint, known: Boundaries): boolean {
  const truncatedAt = known.truncatedAt.get(table);
  if (truncatedAt === undefined) return false;
  const { epoch, position } = splitVersion(parseVersion(String(version)));
  return epoch < known.epoch || position < truncatedAt;
}

/** Reads the boundaries from the control topic. */
export function boundariesFrom(control: Pick<ControlLog, 'get' | 'entries'>, settings: Pick<Boundaries, 'prefix' | 'deletePolicy' | 'accepted'>): Boundaries {
  const truncatedAt = new Map<TableName, bigint>();
  for (const [, record] of control.entries<TruncateRecord>('truncate/')) {
    const lsn = parseLsn(record.lsn);
    if (!record.applied && lsn > (truncatedAt.get(record.table) ?? -1n)) truncatedAt.set(record.table, lsn);
  }
  return {
    ...settings,
    switched: new Set(control.entries<SwitchedRecord>('tenant/switched/').map(([, record]) => record.tenantId)),
    retention: new Map(control.entries<RetentionRecord>('tenant/retention/').map(([, record]) => [record.tenantId, record.throughMonth])),
    archived: new Map(control.entries<ArchivedRecord>('tenant/archived/').map(([, record]) => [`${record.tenantId}/${record.table}`, record.before])),
    truncatedAt,
    epoch: control.get<EpochRecord>(stateKeys.epoch)?.epoch ?? 1,
  };
}
