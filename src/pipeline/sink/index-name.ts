import type { Connector } from '../../connector/definition.ts';
import { isUuid, monthOf } from '../../core/row-key.ts';
import type { RowKey } from '../../core/row-key.ts';

/** Why a key has no index: both end in the dead letters, since no later attempt can find one either. */
export type NoIndex = 'bad-key' | 'no-month';

/** What the name of one of our indices says. */
export interface IndexParts {
  readonly connector: Connector;
  readonly tenantId: string;
  /** `YYYY.MM`, UTC. */
  readonly month: string;
}

/**
 * `{prefix}-{connector.index}-{tenant_id}-{YYYY.MM}`, or why there is none. Dify's retention deletes whatever sorts
 * below its cutoff behind the last dash, so a name ends in the month and nothing else.
 */
export function indexOf(prefix: string, connector: Connector, key: RowKey): { readonly name: string; readonly month: string } | NoIndex {
  // The row's id becomes a document id and the tenant a part of a name: neither is taken on trust from a Kafka record.
  if (!isUuid(key.tenantId) || !isUuid(key.id)) return 'bad-key';
  const month = monthOf(key.createdAt);
  if (month === undefined) return 'no-month';
  return { name: indexName(prefix, connector, key.tenantId, month), month };
}

/** The name from parts that are known to be good. */
export function indexName(prefix: string, connector: Connector, tenantId: string, month: string): string {
  return `${prefix}-${connector.index}-${tenantId}-${month}`;
}

const TAIL = /^-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})-(\d{4}\.(?:0[1-9]|1[0-2]))$/;

/**
 * The inverse, exact: undefined for every name that this program with this prefix would not have made. Retention drops
 * what this recognises, so `dify` must never take an index of the prefix `dify-test` or of a person for its own.
 */
export function parseIndexName(prefix: string, connectors: Iterable<Connector>, name: string): IndexParts | undefined {
  for (const connector of connectors) {
    const head = `${prefix}-${connector.index}`;
    const match = name.startsWith(head) ? TAIL.exec(name.slice(head.length)) : null;
    if (match) return { connector, tenantId: match[1]!, month: match[2]! };
  }
  return undefined;
}

/**
 * A pattern that holds every index of the connector and as little else as a `*` allows: the five dashes are those of
 * the tenant's uuid and of the month. For asking the server only; what it answers goes through `parseIndexName`.
 */
export function indexPattern(prefix: string, connector: Connector, month = '*.*'): string {
  return `${prefix}-${connector.index}-*-*-*-*-*-${month}`;
}

/** All indices of one tenant, for asking the server. The tenant must be a uuid. */
export function tenantPattern(prefix: string, connector: Connector, tenantId: string): string {
  if (!isUuid(tenantId)) throw new RangeError('not a tenant id');
  return `${prefix}-${connector.index}-${tenantId}-*.*`;
}
