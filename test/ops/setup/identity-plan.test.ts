import { describe, expect, test } from 'vitest';
import { TABLES } from '../../../src/core/contracts.ts';
import { formerOf, identitySteps, isSufficient, stopsDify } from '../../../src/ops/setup/identity-plan.ts';
import { formerIdentity, identityComment, identityIndexName } from '../../../src/ops/setup/names.ts';
import type { IdentityState, IndexState, TableState } from '../../../src/ops/setup/source-state.ts';

const OWN = identityIndexName('workflow_runs');
const index = (name: string, given: Partial<IndexState> = {}): IndexState => ({ name, usable: true, covers: true, comment: null, ...given });

function table(identity: IdentityState, ownIndex: IndexState | null = null): TableState {
  return { table: 'workflow_runs', oid: 1, relkind: 'r', unlogged: false, hasPrimaryKey: true, missing: [], nullable: [], owned: true, selectable: true, identity, ownIndex };
}

const what = (state: TableState): string[] => identitySteps(state).map((step) => step.do);

describe('the way to the replica identity', () => {
  test('an untouched table gets index, comment and identity, in this order', () => {
    expect(what(table({ kind: 'default' }))).toEqual(['create-index', 'comment', 'set-identity']);
  });

  test('FULL is accepted as it is', () => {
    expect(what(table({ kind: 'full' }))).toEqual([]);
  });

  test('a finished index that is the identity needs nothing', () => {
    expect(what(table({ kind: 'index', index: index(OWN) }, index(OWN)))).toEqual([]);
  });

  test('an index of somebody else is enough when it holds id, tenant_id and created_at', () => {
    expect(what(table({ kind: 'index', index: index('theirs') }))).toEqual([]);
    expect(what(table({ kind: 'index', index: index('theirs', { covers: false }) }))).toEqual(['create-index', 'comment', 'set-identity']);
  });

  test('an unfinished index that is no identity is dropped and built again', () => {
    expect(what(table({ kind: 'default' }, index(OWN, { usable: false })))).toEqual(['drop-index', 'create-index', 'comment', 'set-identity']);
  });

  test('an unfinished index that is the identity is left before it is dropped, since Dify fails until then', () => {
    const state = table({ kind: 'index', index: index(OWN, { usable: false }) }, index(OWN, { usable: false }));
    expect(stopsDify(state)).toBe(true);
    expect(what(state)).toEqual(['rescue', 'drop-index', 'create-index', 'comment', 'set-identity']);
  });

  test('an identity whose index was dropped is rescued first', () => {
    expect(what(table({ kind: 'index-gone' }))).toEqual(['rescue', 'create-index', 'comment', 'set-identity']);
  });

  test('an index of our name with other columns is not trusted', () => {
    expect(what(table({ kind: 'index', index: index(OWN, { covers: false }) }, index(OWN, { covers: false })))).toEqual(['rescue', 'drop-index', 'create-index', 'comment', 'set-identity']);
  });

  test('a finished index that a kill kept from becoming the identity is not built again', () => {
    expect(what(table({ kind: 'default' }, index(OWN)))).toEqual(['comment', 'set-identity']);
  });

  test('an unfinished leftover beside FULL is removed', () => {
    expect(what(table({ kind: 'full' }, index(OWN, { usable: false })))).toEqual(['drop-index']);
  });

  test('no sequence of steps sets an identity before the index is whole', () => {
    for (const kind of ['default', 'nothing', 'index-gone'] as const) {
      for (const own of [null, index(OWN), index(OWN, { usable: false }), index(OWN, { covers: false })]) {
        const steps = what(table({ kind }, own));
        expect(steps.at(-1)).toBe('set-identity');
        if (!own?.usable || !own.covers) expect(steps).toContain('create-index');
      }
    }
  });
});

describe('the identity of before setup', () => {
  test('it survives in the comment of the index', () => {
    for (const former of [{ kind: 'default' }, { kind: 'nothing' }, { kind: 'full' }, { kind: 'index', name: 'their "index" 1' }] as const) {
      expect(formerIdentity(identityComment(former))).toEqual(former);
    }
  });

  test('a comment that is missing or of somebody else means the default', () => {
    expect(formerIdentity(null)).toEqual({ kind: 'default' });
    expect(formerIdentity('do not touch')).toEqual({ kind: 'default' });
  });

  test('a rescue that was killed before the rebuild does not forget it', () => {
    const comment = identityComment({ kind: 'nothing' });
    expect(formerOf(table({ kind: 'default' }, index(OWN, { usable: false, comment })))).toEqual({ kind: 'nothing' });
  });

  test('an index of somebody else is remembered by its name', () => {
    expect(formerOf(table({ kind: 'index', index: index('theirs', { covers: false }) }))).toEqual({ kind: 'index', name: 'theirs' });
  });

  test('a broken identity of somebody else is not put back', () => {
    expect(formerOf(table({ kind: 'index', index: index('theirs', { usable: false }) }))).toEqual({ kind: 'default' });
    expect(isSufficient(table({ kind: 'index', index: index('theirs', { usable: false }) }))).toBe(false);
  });
});

test('the index names fit into the 63 bytes that PostgreSQL keeps', () => {
  for (const name of TABLES.map(identityIndexName)) expect(Buffer.byteLength(name)).toBeLessThanOrEqual(63);
});
