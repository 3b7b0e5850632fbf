import type { Cells, Tuple } from '../../core/cells.ts';
import type { RowShape } from '../../core/contracts.ts';
import { isUuid, type RowKey } from '../../core/row-key.ts';

/** Where a shape has the three columns of the key; -1 where it lacks one. */
export interface KeyColumns {
  readonly id: number;
  readonly tenantId: number;
  readonly createdAt: number;
}

const known = new WeakMap<RowShape, KeyColumns>();

/** By name, once per shape: upgraded databases have the columns in another order. */
function keyColumnsOf(shape: RowShape): KeyColumns {
  let found = known.get(shape);
  if (!found) {
    const { columns } = shape;
    found = { id: columns.indexOf('id'), tenantId: columns.indexOf('tenant_id'), createdAt: columns.indexOf('created_at') };
    known.set(shape, found);
  }
  return found;
}

/** The key of a tuple, or undefined where id or tenant_id is no uuid or one of the three is not there. */
export function keyOf(shape: RowShape, cells: Cells | Tuple): RowKey | undefined {
  const at = keyColumnsOf(shape);
  const id = cells.ascii(at.id);
  const tenantId = cells.ascii(at.tenantId);
  const createdAt = cells.ascii(at.createdAt);
  if (id === undefined || tenantId === undefined || createdAt === undefined) return undefined;
  return isUuid(id) && isUuid(tenantId) ? { tenantId, createdAt, id } : undefined;
}

/** The id of a tuple as text, or undefined. */
export function idOf(shape: RowShape, cells: Cells | Tuple): string | undefined {
  return cells.ascii(keyColumnsOf(shape).id);
}
