/** Every kind of operation, with its share among the freely drawn ones. A weight of 0: only the sure occurrences. */
export const WEIGHTS = {
  'insert': 16,
  'insert-multi-row': 4,
  'copy': 3,
  'upsert': 3,
  'update': 12,
  'update-unchanged-toast': 16,
  'update-multi-row': 3,
  'update-hostile-json': 4,
  'update-same-row-twice': 3,
  'big-row': 1,
  'delete': 8,
  'delete-multi-row': 2,
  'delete-insert-one-transaction': 5,
  'delete-insert-two-transactions': 5,
  'delete-copy': 3,
  'insert-delete-one-transaction': 2,
  'move-tenant': 3,
  'move-month': 3,
  'move-within-month': 2,
  'move-and-back': 2,
  'change-id': 1,
  'savepoint-rolled-back': 3,
  'savepoint-released': 2,
  'rolled-back': 3,
  'failed-transaction': 2,
  'mixed-transaction': 4,
  'concurrent-writers': 6,
  'held-open': 3,
  'large-insert': 0,
  'large-update': 0,
  'large-delete': 0,
  'idle': 0,
} as const;
export type CoreKind = keyof typeof WEIGHTS;

/** Only when the caller asks: what needs a migrate or a policy before both ends can be equal again. */
export const DDL_KINDS = ['add-column', 'rename-column', 'drop-column'] as const;
export const OPTIONAL_KINDS = [...DDL_KINDS, 'truncate'] as const;
export type Kind = CoreKind | (typeof OPTIONAL_KINDS)[number];

export const CORE_KINDS = Object.keys(WEIGHTS) as CoreKind[];

/** How often a kind comes for sure, whatever the draw: no round may pass without it. */
export function sureOccurrences(kind: Kind): number {
  switch (kind) {
    case 'idle': return 3;
    case 'large-insert': case 'large-update': case 'large-delete': case 'truncate': return 1;
    // one more than the others of its kind, so that at the end there is a column that nobody knew
    case 'add-column': return 3;
    default: return 2;
  }
}

/** These wait until every other lane is quiet: an idle spell is one of the whole table, and DDL has a fixed place. */
export function isAlone(kind: Kind): boolean {
  return kind === 'idle' || kind === 'truncate' || (DDL_KINDS as readonly string[]).includes(kind);
}
