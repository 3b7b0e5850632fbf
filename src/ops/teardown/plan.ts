import type { TableName } from '../../core/contracts.ts';
import { stopsDify } from '../setup/identity-plan.ts';
import { formerIdentity, identityIndexName, type FormerIdentity } from '../setup/names.ts';
import type { TableState } from '../setup/source-state.ts';

/** What teardown does with one table. */
export interface TablePlan {
  readonly table: TableName;
  readonly oid: number;
  /** The identity to put back; null when the present one is not ours to change. */
  readonly restore: FormerIdentity | null;
  readonly dropIndex: boolean;
  /** Another installation publishes this table and needs the index; nothing is done then. */
  readonly keptFor: string | null;
}

/** Who else leans on the table's identity. */
export interface Surroundings {
  /** Another publication of this program with the table in it. */
  readonly usedBy: string | null;
  /** Any other publication has the table in it: with REPLICA IDENTITY NOTHING its UPDATE and DELETE would fail. */
  readonly published: boolean;
  /** Unique indexes of the table that can be a replica identity; the one from before setup may be gone. */
  readonly usableIndexes: ReadonlySet<string>;
}

export function tablePlan(state: TableState, around: Surroundings): TablePlan {
  const { table, oid, ownIndex } = state;
  if (around.usedBy !== null && !stopsDify(state)) return { table, oid, restore: null, dropIndex: false, keptFor: around.usedBy };
  return { table, oid, restore: restoreOf(state, around), dropIndex: ownIndex !== null, keptFor: null };
}

function restoreOf({ table, identity, ownIndex }: TableState, { published, usableIndexes }: Surroundings): FormerIdentity | null {
  const ours = identity.kind === 'index-gone' || (identity.kind === 'index' && (identity.index.name === identityIndexName(table) || !identity.index.usable));
  if (!ours) return null;
  const former = formerIdentity(ownIndex?.comment ?? null);
  const refused = (former.kind === 'index' && !usableIndexes.has(former.name)) || (former.kind === 'nothing' && published);
  return refused ? { kind: 'default' } : former;
}

export function describeIdentityName(identity: FormerIdentity): string {
  return identity.kind === 'index' ? `USING INDEX ${identity.name}` : identity.kind.toUpperCase();
}
