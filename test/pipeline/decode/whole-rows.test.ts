import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Cells, UNCHANGED } from '../../../src/core/cells.ts';
import type { Cell, FetchRows, LoggedChange, OldTuple, Relation, Row } from '../../../src/core/contracts.ts';
import type { Lsn } from '../../../src/core/lsn.ts';
import { RowCache } from '../../../src/pipeline/decode/row-cache.ts';
import { isGone, WholeRows, type WholeChange } from '../../../src/pipeline/decode/whole-rows.ts';
import { cellOf, cellsOf, tupleOf, valuesOf } from '../../support/cells.ts';
import { COLUMNS, ID, logged, OTHER_ID, oldKey, relation, transaction, tuple, type Values } from './messages.ts';

const LONG = 'g'.repeat(3_000);
const runs = relation();
const ABSENT: OldTuple = { kind: 'absent' };

const insert = (values: Values = {}, of: Relation = runs): LoggedChange => logged({ kind: 'insert', relation: of, tuple: tuple(values) });
const update = (values: Values = {}, old: OldTuple = ABSENT, of: Relation = runs): LoggedChange => logged({ kind: 'update', relation: of, old, tuple: tuple(values) });
const remove = (values: Values = {}, of: Relation = runs): LoggedChange => logged({ kind: 'delete', relation: of, old: oldKey(values) });

/** A table as the SELECT would see it: graph by id. Counts its calls. */
function tableOf(rows: Record<string, string | null>, options: { columns?: readonly string[]; atMost?: number } = {}): { fetch: FetchRows; asked: string[][] } {
  const asked: string[][] = [];
  const fetch: FetchRows = async (_, ids, columns) => {
    asked.push([...ids]);
    const present = columns.filter((column) => options.columns?.includes(column) ?? true);
    return {
      columns: present,
      asOf: 77n as Lsn,
      rows: new Map(ids.slice(0, options.atMost ?? ids.length).map((id) => [id, id in rows ? present.map((): Cell => (rows[id] === null ? null : Buffer.from(rows[id]!))) : null])),
    };
  };
  return { fetch, asked };
}
const noFetch: FetchRows = async () => {
  throw new Error('nothing had to be fetched');
};

async function complete(rows: WholeRows, batch: LoggedChange[], fetch: FetchRows): Promise<WholeChange[]> {
  const all: WholeChange[] = [];
  for await (const slice of rows.complete(batch, fetch)) all.push(...slice);
  return all;
}
const graphOf = ({ row }: WholeChange): string | null | undefined => {
  if (row === null) return row;
  if (isGone(row)) return undefined;
  const cell = cellOf(row, 'graph');
  return cell === undefined ? undefined : (cell?.toString() ?? null);
};

describe('a hole is filled', () => {
  test('from the full old tuple, without asking', async () => {
    const old: OldTuple = { kind: 'full', cells: tuple({ graph: LONG }) };
    const [whole] = await complete(new WholeRows(0), [update({ graph: UNCHANGED, status: 'done' }, old)], noFetch);
    expect(graphOf(whole!)).toBe(LONG);
  });

  test('from the row just seen, also when it was inserted in an earlier batch', async () => {
    const rows = new WholeRows(1 << 20);
    await complete(rows, [insert({ graph: LONG })], noFetch);
    const [whole] = await complete(rows, [update({ graph: UNCHANGED, status: 'done' })], noFetch);
    expect(graphOf(whole!)).toBe(LONG);
  });

  test('from the row seen under its former id', async () => {
    const rows = new WholeRows(1 << 20);
    const wholes = await complete(rows, [insert({ graph: LONG }), update({ id: OTHER_ID, graph: UNCHANGED }, oldKey())], noFetch);
    expect(graphOf(wholes[1]!)).toBe(LONG);
  });

  test('of a row that changed its id not from what another row has under the former one by now', async () => {
    const table = tableOf({ [ID]: 'of the new row', [OTHER_ID]: 'its own' });
    const batch = [update({ graph: UNCHANGED }), update({ id: OTHER_ID, graph: UNCHANGED }, oldKey()), insert({ graph: LONG })];
    const wholes = await complete(new WholeRows(1 << 20), batch, table.fetch);
    expect(wholes.map(graphOf).slice(1)).toEqual(['its own', LONG]);
  });

  test('by one question for all holes of a table in the batch', async () => {
    const table = tableOf({ [ID]: 'one', [OTHER_ID]: 'two' });
    const batch = [update({ graph: UNCHANGED }), update({ id: OTHER_ID, graph: UNCHANGED }), update({ graph: UNCHANGED, status: 'x' })];
    const wholes = await complete(new WholeRows(0), batch, table.fetch);
    expect(wholes.map(graphOf)).toEqual(['one', 'two', 'one']);
    expect(table.asked).toEqual([[ID, OTHER_ID]]);
  });

  test('by a NULL that the table holds', async () => {
    const [whole] = await complete(new WholeRows(0), [update({ graph: UNCHANGED })], tableOf({ [ID]: null }).fetch);
    expect(graphOf(whole!)).toBeNull();
  });

  test('slice by slice where the answer is cut, in the order of the log', async () => {
    const table = tableOf({ [ID]: 'one', [OTHER_ID]: 'two' }, { atMost: 1 });
    const slices: (string | null | undefined)[][] = [];
    const batch = [insert({ graph: 'first' }), update({ graph: UNCHANGED }), update({ id: OTHER_ID, graph: UNCHANGED }), insert({ graph: 'last' })];
    for await (const slice of new WholeRows(0).complete(batch, table.fetch)) slices.push(slice.map(graphOf));
    expect(slices).toEqual([['first'], ['one'], ['two', 'last']]);
    expect(table.asked).toEqual([[ID, OTHER_ID], [OTHER_ID]]);
  });
});

describe('a hole is not filled', () => {
  test('from a row that was deleted since it was seen', async () => {
    const table = tableOf({});
    const wholes = await complete(new WholeRows(1 << 20), [insert({ graph: LONG }), remove(), update({ graph: UNCHANGED })], table.fetch);
    expect(wholes[2]!.row).toEqual({ goneAsOf: 77n });
  });

  test('from a row whose table was announced anew: the name may belong to another column', async () => {
    const table = tableOf({ [ID]: 'fetched' });
    const anew = relation();
    const wholes = await complete(new WholeRows(1 << 20), [insert({ graph: LONG }), logged({ kind: 'relation', relation: anew }), update({ graph: UNCHANGED }, ABSENT, anew)], table.fetch);
    expect(graphOf(wholes[1]!)).toBe('fetched');
  });

  test('from a row seen before a truncate', async () => {
    const wholes = await complete(new WholeRows(1 << 20), [insert({ graph: LONG }), logged({ kind: 'truncate', relations: [runs] }), update({ graph: UNCHANGED })], tableOf({}).fetch);
    expect(wholes.at(-1)!.row).toEqual({ goneAsOf: 77n });
  });

  test('from what was seen before forget()', async () => {
    const rows = new WholeRows(1 << 20);
    await complete(rows, [insert({ graph: LONG })], noFetch);
    rows.forget();
    const [whole] = await complete(rows, [update({ graph: UNCHANGED })], tableOf({ [ID]: 'fetched' }).fetch);
    expect(graphOf(whole!)).toBe('fetched');
  });

  test('when the column is gone: the row comes without it, in one shape for all such rows', async () => {
    const table = tableOf({ [ID]: 'x', [OTHER_ID]: 'y' }, { columns: [] });
    const wholes = await complete(new WholeRows(1 << 20), [update({ graph: UNCHANGED }), update({ id: OTHER_ID, graph: UNCHANGED })], table.fetch);
    const shapes = wholes.map(({ row }) => (row as Row).shape);
    expect(shapes[0]!.columns).toEqual(COLUMNS.filter((column) => column !== 'graph'));
    expect(shapes[1]).toBe(shapes[0]);
  });
});

test('a column whose only hole the look ahead takes for filled is asked for, and not taken for lost', async () => {
  const wide = relation('workflow_runs', 'index', ['id', 'tenant_id', 'graph', 'inputs']);
  const row = (graph: Cell | typeof UNCHANGED, inputs: Cell | typeof UNCHANGED): LoggedChange =>
    logged({ kind: 'update', relation: wide, old: ABSENT, tuple: tupleOf([Buffer.from(ID), Buffer.from('t'), graph, inputs]) });
  const small = Buffer.from('{}');
  // The second change shows the row whole, but it is too small to be kept: the third must find inputs in the answer.
  const batch = [row(UNCHANGED, small), row(small, small), row(small, UNCHANGED)];
  const wholes = await complete(new WholeRows(1 << 20), batch, tableOf({ [ID]: 'fetched' }).fetch);
  expect(wholes.map(({ row }) => valuesOf((row as Row).cells).map(String).slice(2))).toEqual([['fetched', '{}'], ['{}', '{}'], ['{}', 'fetched']]);
});

test('changes keep their order and their transactions', async () => {
  const [a, b] = [transaction(10), transaction(20)];
  const batch = [logged({ kind: 'insert', relation: runs, tuple: tuple() }, a), logged({ kind: 'delete', relation: runs, old: oldKey() }, b)];
  const wholes = await complete(new WholeRows(0), batch, noFetch);
  expect(wholes.map(({ transaction: { commitLsn }, change: { kind } }) => [commitLsn, kind])).toEqual([[10n, 'insert'], [20n, 'delete']]);
});

describe('the cache', () => {
  const cells = (graph: string): Cells => tuple({ graph }).whole()!;

  test('never holds more than its limit, and keeps longer what was asked for', () => {
    const cache = new RowCache(20_000);
    cache.put(runs, 'asked for', cells(LONG));
    for (let i = 0; i < 20; i++) {
      cache.put(runs, `row ${i}`, cells(LONG));
      expect(cache.get(runs, 'asked for')).toBeDefined();
      expect(cache.bytes).toBeLessThanOrEqual(20_000);
    }
    expect(cache.get(runs, 'row 19')).toBeDefined();
    expect(cache.get(runs, 'row 0')).toBeUndefined();
  });

  test('does not hold small rows, of which nothing is ever stored out of line, nor what is larger than all of it', () => {
    const cache = new RowCache(10_000);
    cache.put(runs, 'small', cells('{}'));
    cache.put(runs, 'huge', cells('x'.repeat(20_000)));
    expect([cache.get(runs, 'small'), cache.get(runs, 'huge'), cache.bytes]).toEqual([undefined, undefined, 0]);
  });

  test('counts a row once, however often it is replaced', () => {
    const cache = new RowCache(10_000);
    cache.put(runs, 'a', cells(LONG));
    const once = cache.bytes;
    cache.put(runs, 'a', cells(LONG));
    expect(cache.bytes).toBe(once);
    cache.drop(runs, 'a');
    expect([cache.bytes, cache.get(runs, 'a')]).toEqual([0, undefined]);
  });

  test('counts right whatever happens, and lets go of all of a table', () => {
    const other = { ...relation('workflow_node_executions'), oid: 2 };
    const step = fc.record({ do: fc.constantFrom('put', 'get', 'drop', 'table'), id: fc.integer({ min: 0, max: 5 }), bytes: fc.integer({ min: 0, max: 4_000 }), table: fc.constantFrom(runs, other) });
    fc.assert(fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const cache = new RowCache(12_000);
      for (const { do: what, id, bytes, table } of steps) {
        if (what === 'put') cache.put(table, `${id}`, cellsOf([Buffer.alloc(bytes)]));
        else if (what === 'get') cache.get(table, `${id}`);
        else if (what === 'drop') cache.drop(table, `${id}`);
        else cache.dropTable(table.oid);
        const held = [runs, other].flatMap((one) => [0, 1, 2, 3, 4, 5].flatMap((n) => cache.get(one, `${n}`) ?? []));
        expect(cache.bytes).toBeLessThanOrEqual(12_000);
        expect(held.reduce((sum, row) => sum + row.size, 0)).toBeLessThanOrEqual(12_000);
      }
      cache.dropTable(runs.oid);
      cache.dropTable(other.oid);
      expect(cache.bytes).toBe(0);
    }));
  });
});
