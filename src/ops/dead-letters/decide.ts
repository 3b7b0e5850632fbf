import { CONNECTORS } from '../../connector/registry.ts';
import type { DeadLetter } from '../../core/contracts.ts';
import { isUuid, monthOf, sameKey, type RowKey } from '../../core/row-key.ts';
import { verdictOfSurplus, type Boundaries } from '../validate/expectations.ts';

/**
 * What a redrive does with one letter.
 *
 * `write`: straight to Elasticsearch with its own version, and never into the log again, which has newer records behind
 * it (docs/02-ordering.md, rule 4). `write-if-last`: the same, if the log has nothing newer of the key: Elasticsearch
 * forgets the version of a deleted document after an hour, and would take an older one back. `reread`: from PostgreSQL
 * through Kafka. `settled`: nothing is left to do. `left`: stays open.
 */
export type Decision =
  | { readonly kind: 'write' | 'write-if-last' | 'reread' }
  | { readonly kind: 'settled'; readonly why: 'gone' | 'moved' | 'expired' }
  | { readonly kind: 'left'; readonly why: 'switched' | 'no-key' };

/** `place`: the key that PostgreSQL has now under the letter's id. `force`: switched tenants too. */
export function decide(letter: DeadLetter, place: RowKey | undefined, known: Boundaries, force: boolean): Decision {
  const { key, value, version, cause, table } = letter;
  if (!key || !isUuid(key.id)) return { kind: 'left', why: 'no-key' };
  const needsRow = cause === 'row-too-large' || cause === 'row-gone' || cause === 'undecodable' || version === null;
  // what goes through Kafka the sinks settle as switched, forced or not
  if (known.switched.has(key.tenantId) && (!force || needsRow)) return { kind: 'left', why: 'switched' };
  const month = monthOf(key.createdAt);
  if (month !== undefined && month <= (known.retention.get(key.tenantId) ?? '')) return { kind: 'settled', why: 'expired' };
  if (place && !sameKey(place, key)) return value === null && !needsRow ? { kind: 'write' } : { kind: 'settled', why: 'moved' };
  if (place) return { kind: needsRow ? 'reread' : 'write' };
  if (needsRow) return cause === 'undecodable' && value === null ? { kind: 'left', why: 'no-key' } : { kind: 'settled', why: 'gone' };
  if (value === null) return { kind: 'write' };
  const surplus = month === undefined ? 'extra' : verdictOfSurplus({ connector: CONNECTORS[table], tenantId: key.tenantId, month }, version, key.createdAt, { ...known, switched: new Set() });
  return surplus === 'kept-by-policy' || surplus === 'archived' ? { kind: 'write-if-last' } : { kind: 'settled', why: 'gone' };
}
