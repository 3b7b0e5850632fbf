import { Cells, Tuple, UNCHANGED } from '../../src/core/cells.ts';
import type { Cell, Row } from '../../src/core/contracts.ts';

export type TupleValue = Cell | typeof UNCHANGED;

/** Between the values, as the server's lengths are: a digit, so that whoever reads beyond a number or a date is found out. */
const BETWEEN = Buffer.from('9');

/** A tuple of single values, which lie in one buffer with other bytes around each. */
export function tupleOf(values: readonly TupleValue[]): Tuple {
  const parts = values.map((value) => (value === null || value === UNCHANGED ? Buffer.alloc(0) : value));
  const tuple = Tuple.room(Buffer.concat([BETWEEN, ...parts.flatMap((part) => [part, BETWEEN])]), values.length);
  let start = BETWEEN.length;
  for (const [index, value] of values.entries()) {
    const end = start + parts[index]!.length;
    if (value === null) tuple.putNull(index);
    else if (value === UNCHANGED) tuple.putHole(index);
    else tuple.put(index, start, end);
    start = end + BETWEEN.length;
  }
  return tuple;
}

/** A row of single values, laid out like a tuple. */
export function cellsOf(values: readonly Cell[]): Cells {
  return tupleOf(values).whole()!;
}

export function valuesOf(cells: Cells): Cell[];
export function valuesOf(cells: Cells | Tuple): TupleValue[];
export function valuesOf(cells: Cells | Tuple): TupleValue[] {
  return Array.from({ length: cells.length }, (_, index) => cells.get(index));
}

/** What a row has in a column; undefined where it has no such column. */
export function cellOf({ shape, cells }: Row, column: string): Cell | undefined {
  return valuesOf(cells)[shape.columns.indexOf(column)];
}

/** A row as texts by column. */
export function textsOf({ shape, cells }: Row): Record<string, string | null> {
  const values = valuesOf(cells);
  return Object.fromEntries(shape.columns.map((column, at) => [column, values[at]?.toString('utf8') ?? null]));
}
