import type { TableName } from '../../core/contracts.ts';

/** What finds a row's document, in the order of the identity index: id first, since it alone is selective. */
export const IDENTITY_COLUMNS = ['id', 'tenant_id', 'created_at'] as const;

/** At most 49 of the 63 bytes that PostgreSQL keeps of a name; a longer one would be cut and never be found again. */
export function identityIndexName(table: TableName): string {
  return `dify_es_identity_${table}`;
}

/** The replica identity of a table before setup changed it, to be put back by teardown. */
export type FormerIdentity = { readonly kind: 'default' | 'nothing' | 'full' } | { readonly kind: 'index'; readonly name: string };

/**
 * The COMMENT of the identity index. It answers the person whose clean-up script lists the index as never scanned, and
 * it is the only place where the former identity is kept: it lives and dies with the index.
 */
export function identityComment(former: FormerIdentity): string {
  const before = former.kind === 'index' ? `index ${former.name}` : former.kind;
  return `Replica identity for dify-es: never scanned, and not unused. Dropping it makes every UPDATE and DELETE on this table fail; run "dify-es teardown" instead. [before: ${before}]`;
}

/** Reads identityComment back; a comment that is missing or of somebody else means the default identity. */
export function formerIdentity(comment: string | null): FormerIdentity {
  const before = /\[before: (default|nothing|full|index (.+))\]$/.exec(comment ?? '');
  if (!before) return { kind: 'default' };
  if (before[2] !== undefined) return { kind: 'index', name: before[2] };
  return { kind: before[1] as 'default' | 'nothing' | 'full' };
}

/** Marks the publication as ours, so that a second installation's teardown leaves the shared identity indexes alone. */
export const PUBLICATION_COMMENT = 'Made by dify-es: what its reader is sent. Drop it with "dify-es teardown".';

export function isOwnPublication(comment: string | null): boolean {
  return comment?.startsWith('Made by dify-es') ?? false;
}
