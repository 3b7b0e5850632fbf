import { formerIdentity, type FormerIdentity } from './names.ts';
import type { TableState } from './source-state.ts';

/** One step on the way to a replica identity that finds the document of a deleted row. */
export type IdentityStep =
  /** Away from an index that is unusable or gone: until then every UPDATE and DELETE of Dify fails. */
  | { readonly do: 'rescue'; readonly to: FormerIdentity }
  | { readonly do: 'drop-index' }
  | { readonly do: 'create-index' }
  | { readonly do: 'comment'; readonly former: FormerIdentity }
  | { readonly do: 'set-identity' };

/** Enough for the reader as it is: FULL, or any usable index with id, tenant_id and created_at. */
export function isSufficient({ identity }: Pick<TableState, 'identity'>): boolean {
  return identity.kind === 'full' || (identity.kind === 'index' && identity.index.usable && identity.index.covers);
}

/** An identity by which PostgreSQL cannot find the row any more, so that UPDATE and DELETE of a published table fail. */
export function stopsDify({ identity }: Pick<TableState, 'identity'>): boolean {
  return identity.kind === 'index-gone' || (identity.kind === 'index' && !identity.index.usable);
}

/**
 * What is left to do for one table; empty when nothing is. In this order, because PostgreSQL accepts an unfinished
 * index as replica identity: index first, proven finished, then the identity; and on the way back the identity first.
 */
export function identitySteps(state: TableState): IdentityStep[] {
  const steps: IdentityStep[] = [];
  const own = state.ownIndex;
  const good = own !== null && own.usable && own.covers;
  if (stopsDify(state)) steps.push({ do: 'rescue', to: { kind: 'default' } });

  if (isSufficient(state)) {
    if (own && !own.usable) steps.push({ do: 'drop-index' });
    return steps;
  }
  if (own && !good) {
    // a wrong index of our name that is the identity: leave it before it is dropped
    if (state.identity.kind === 'index' && state.identity.index.name === own.name && own.usable) steps.push({ do: 'rescue', to: { kind: 'default' } });
    steps.push({ do: 'drop-index' });
  }
  if (!good) steps.push({ do: 'create-index' });
  steps.push({ do: 'comment', former: formerOf(state) }, { do: 'set-identity' });
  return steps;
}

/**
 * What teardown shall put back. Our own index, or an identity that was broken, was not Dify's choice: then the comment of
 * our index knows, also after a rescue that was killed before the rebuild.
 */
export function formerOf({ identity, ownIndex }: TableState): FormerIdentity {
  switch (identity.kind) {
    case 'index':
      return identity.index.usable && identity.index.name !== ownIndex?.name ? { kind: 'index', name: identity.index.name } : formerIdentity(ownIndex?.comment ?? null);
    case 'default':
    case 'index-gone':
      return formerIdentity(ownIndex?.comment ?? null);
    case 'nothing':
    case 'full':
      return { kind: identity.kind };
    default:
      return identity satisfies never;
  }
}
