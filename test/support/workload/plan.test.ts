import { describe, expect, test } from 'vitest';
import { classify } from './connections.ts';
import { CORE_KINDS, DDL_KINDS, sureOccurrences, type Kind } from './kinds.ts';
import { planWorkload } from './plan.ts';

describe('a plan', () => {
  test('is the same for the same options and another for another seed', () => {
    const options = { seed: 11, operations: 500, ddl: true, truncate: true };
    expect(planWorkload(options)).toEqual(planWorkload(options));
    expect(planWorkload({ ...options, seed: 12 })).not.toEqual(planWorkload(options));
  });

  test.each([1, 2, 3, 4, 5])('of seed %i has every kind as often as it must come', (seed) => {
    const plan = planWorkload({ seed, operations: 120, ddl: true, truncate: true });
    expect(plan).toHaveLength(120);
    const rare = [...CORE_KINDS, ...DDL_KINDS, 'truncate' as const].filter((kind) => plan.filter((operation) => operation.kind === kind).length < sureOccurrences(kind));
    expect(rare).toEqual([]);
  });

  test('alters tables only when it is asked to', () => {
    const kinds = new Set<Kind>(planWorkload({ seed: 1, operations: 3000 }).map(({ kind }) => kind));
    expect([...kinds].sort()).toEqual([...CORE_KINDS].sort());
  });

  test('adds a column before it renames and drops one, and makes the large rows before it changes them', () => {
    const plan = planWorkload({ seed: 8, operations: 200, ddl: true });
    const order = (kinds: readonly string[]): string[] => plan.map(({ kind }) => kind).filter((kind) => kinds.includes(kind));
    expect(order(DDL_KINDS)).toEqual(['add-column', 'rename-column', 'drop-column', 'add-column', 'rename-column', 'drop-column', 'add-column']);
    expect(order(['large-insert', 'large-update', 'large-delete'])).toEqual(['large-insert', 'large-update', 'large-delete']);
    expect(new Set(plan.filter(({ kind }) => kind.startsWith('large-')).map(({ lane }) => lane))).toEqual(new Set([0]));
  });

  test('makes lanes meet on the same rows', () => {
    const lanesOf = new Map<string, Set<number>>();
    for (const { ids, lane } of planWorkload({ seed: 2, operations: 2000 })) for (const id of ids) lanesOf.set(id, (lanesOf.get(id) ?? new Set()).add(lane));
    expect([...lanesOf.values()].filter((lanes) => lanes.size === 4).length).toBeGreaterThan(20);
  });

  test('never gives an id out as new twice', () => {
    const fresh = planWorkload({ seed: 3, operations: 2000 }).flatMap(({ freshIds }) => freshIds);
    expect(new Set(fresh).size).toBe(fresh.length);
  });

  test('too few operations are refused instead of leaving kinds out', () => {
    expect(() => planWorkload({ seed: 1, operations: 10 })).toThrow(RangeError);
  });
});

test.each([['23505', 'conflict'], ['40P01', 'conflict'], ['57P01', 'lost'], ['08006', 'lost'], ['ECONNREFUSED', 'lost'], ['42P01', 'fault'], ['22P02', 'fault']])('an error with code %s is a %s', (code, mishap) => {
  expect(classify(Object.assign(new Error('x'), { code }))).toBe(mishap);
});

test('a mistake of ours is a fault and not a lost connection', () => {
  expect(classify(new TypeError('x is undefined'))).toBe('fault');
});
