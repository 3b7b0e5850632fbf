import { describe, expect, test } from 'vitest';
import { UNCHANGED } from '../../../src/core/cells.ts';
import type { DeadLetter, FetchRows, LoggedChange, RowRecord } from '../../../src/core/contracts.ts';
import type { Lsn } from '../../../src/core/lsn.ts';
import { RecordMaker } from '../../../src/pipeline/decode/record-maker.ts';
import { ID, logged, OTHER_ID, oldKey, relation, transaction, tuple, type Values } from './messages.ts';

const RULES = { epoch: 1, deletePolicy: 'apply', isAnnouncedCleanup: (runId: string) => runId === 'run-1' } as const;
const runs = relation();
const AS_OF = 5_000n as Lsn;
/** Nobody sees any row. */
const nothingThere: FetchRows = async (_, ids, columns) => ({ columns, rows: new Map(ids.map((id) => [id, null])), asOf: AS_OF });

const update = (lsn: number, values: Values = {}): LoggedChange => logged({ kind: 'update', relation: runs, old: { kind: 'absent' }, tuple: tuple({ graph: UNCHANGED, ...values }) }, transaction(lsn));
const remove = (lsn: number, values: Values = {}): LoggedChange => logged({ kind: 'delete', relation: runs, old: oldKey(values) }, transaction(lsn));
const insert = (lsn: number, values: Values = {}): LoggedChange => logged({ kind: 'insert', relation: runs, tuple: tuple(values) }, transaction(lsn));
const truncate = (lsn: number): LoggedChange => logged({ kind: 'truncate', relations: [runs] }, transaction(lsn));

const maker = (truncatePolicy: 'ignore' | 'apply' = 'ignore'): RecordMaker => new RecordMaker({ cacheBytes: 0, truncatePolicy, fetchRows: nothingThere });
async function make(of: RecordMaker, batch: readonly LoggedChange[], rules = RULES): Promise<{ records: RowRecord[]; letters: DeadLetter[] }> {
  const all = { records: [] as RowRecord[], letters: [] as DeadLetter[] };
  for await (const { records, letters } of of.make(batch, rules)) {
    all.records.push(...records);
    all.letters.push(...letters);
  }
  return all;
}

describe('a change whose row is gone waits for the log to say why', () => {
  test('its delete in the same batch explains it', async () => {
    const one = maker();
    expect(await make(one, [update(10), remove(20)])).toMatchObject({ records: [{ op: 'delete' }], letters: [] });
    expect(one.waitingSince).toBeNull();
  });

  test('its delete in a later batch explains it; until then the slot is held at its commit', async () => {
    const one = maker();
    await make(one, [insert(5, { id: OTHER_ID }), update(10), update(12)]);
    expect(one.waitingSince).toBe(10n);
    expect((await make(one, [remove(20)])).letters).toEqual([]);
    expect(one.waitingSince).toBeNull();
  });

  test.each<[string, LoggedChange]>([
    ['the delete of an announced clean-up', logged({ kind: 'delete', relation: runs, old: oldKey() }, transaction(20, { cleanupRunId: 'run-1' }))],
    ['a whole row for the same id', insert(20)],
    ['a move away from the id', logged({ kind: 'update', relation: runs, old: oldKey(), tuple: tuple({ id: OTHER_ID }) }, transaction(20))],
  ])('%s explains it too', async (_, explanation) => {
    const one = maker();
    await make(one, [update(10)]);
    await make(one, [explanation]);
    expect(one.waitingSince).toBeNull();
  });

  test('the delete of another row does not', async () => {
    const one = maker();
    await make(one, [update(10)]);
    await make(one, [remove(20, { id: OTHER_ID })]);
    expect(one.waitingSince).toBe(10n);
  });

  test('a truncate under TRUNCATE_POLICY=ignore does not: the last change of each row is parked', async () => {
    const one = maker();
    await make(one, [update(10), update(15), update(17, { id: OTHER_ID })]);
    const { letters } = await make(one, [truncate(20)]);
    expect(letters.map(({ cause, key, version }) => [cause, key?.id, (version ?? 0n) & 0xffn])).toEqual([['row-gone', ID, 15n], ['row-gone', OTHER_ID, 17n]]);
    expect(one.waitingSince).toBeNull();
  });

  test('a truncate under TRUNCATE_POLICY=apply does: its document goes', async () => {
    const one = maker('apply');
    await make(one, [update(10)]);
    expect((await make(one, [truncate(20)])).letters).toEqual([]);
    expect(one.waitingSince).toBeNull();
  });

  test('when the log has passed the moment of looking and explained nothing, it is parked', async () => {
    const one = maker();
    await make(one, [update(10)]);
    expect(one.unexplained(4_999n as Lsn)).toEqual([]);
    const rows = one.unexplained(AS_OF);
    expect(rows).toMatchObject([{ letter: { cause: 'row-gone', key: { id: ID } } }]);
    one.parked(rows);
    expect([one.unexplained(AS_OF), one.waitingSince]).toEqual([[], null]);
  });
});

test('a batch that is made again, because Kafka did not take it, comes out the same, also its parked changes', async () => {
  const one = maker();
  await make(one, [update(10)]);
  const batch = [update(15, { id: OTHER_ID }), remove(16, { id: OTHER_ID }), truncate(20)];
  const first = await make(one, batch);
  one.forget();
  expect(await make(one, batch)).toEqual(first);
  expect(first.letters).toHaveLength(1);
});

test('more changes than can be remembered wait no longer, oldest first', async () => {
  const one = maker();
  const id = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
  await make(one, Array.from({ length: 20_003 }, (_, n) => update(n + 1, { id: id(n) })));
  expect(one.unexplained(0n as Lsn).map(({ letter }) => letter.key?.id)).toEqual([id(0), id(1), id(2)]);
});

describe('of several changes of a row in a batch the last one alone is published', () => {
  const whole = (lsn: number, values: Values = {}): LoggedChange => logged({ kind: 'update', relation: runs, old: { kind: 'absent' }, tuple: tuple(values) }, transaction(lsn));
  const moved = (lsn: number, from: Values, to: Values): LoggedChange => logged({ kind: 'update', relation: runs, old: oldKey(from), tuple: tuple(to) }, transaction(lsn));
  const LATER = '2025-11-10 08:25:41.1234';
  const said = ({ records }: { records: readonly RowRecord[] }): string[] => records.map(({ key, version, op }) => `${op} ${key.id === ID ? 'row' : 'other'} ${key.createdAt === LATER ? 'later ' : ''}${version & 0xffn}`);

  test('where it stood', async () => {
    expect(said(await make(maker(), [insert(10), insert(11, { id: OTHER_ID }), whole(12), whole(13)]))).toEqual(['insert other 11', 'update row 13']);
  });

  test('also where it is a delete, or an insert after one', async () => {
    expect(said(await make(maker(), [insert(10), remove(11)]))).toEqual(['delete row 11']);
    expect(said(await make(maker(), [insert(10), remove(11), insert(12)]))).toEqual(['insert row 12']);
  });

  test('of each key: a row that moves away and back leaves the other key deleted, and its value last', async () => {
    const there = { createdAt: LATER };
    expect(said(await make(maker(), [insert(10), moved(11, {}, there), moved(12, there, {})]))).toEqual(['delete row later 12', 'update row 12']);
    expect(said(await make(maker(), [insert(10), moved(11, {}, there)]))).toEqual(['delete row 11', 'update row later 11']);
  });
});
