import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import { indexName, indexOf, indexPattern, parseIndexName, tenantPattern } from '../../../src/pipeline/sink/index-name.ts';
import { ID, TENANT } from './documents-of.ts';

const all = Object.values(CONNECTORS);
const runs = CONNECTORS.workflow_runs;
const key = { id: ID, tenantId: TENANT, createdAt: '2025-10-10 08:25:41.123456' };
const matches = (pattern: string, name: string): boolean => new RegExp(`^${pattern.split('*').map((part) => part.replaceAll('.', '\\.')).join('.*')}$`).test(name);

describe('the index of a row', () => {
  test('is named by prefix, table, tenant and the month of created_at', () => expect(indexOf('dify', runs, key)).toStrictEqual({ name: `dify-workflow-runs-${TENANT}-2025.10`, month: '2025.10' }));

  test.each([{ tenantId: '' }, { tenantId: '*' }, { tenantId: TENANT.toUpperCase().replace('4333', '433A') }, { tenantId: `${TENANT}-x` }, { id: 'x","_index":"other' }, { id: '' }])('is none for %j', (wrong) =>
    expect(indexOf('dify', runs, { ...key, ...wrong })).toBe('bad-key'));

  test.each(['infinity', '-infinity', '0044-03-15 00:00:00 BC', '12025-01-01 00:00:00', ''])('is none for created_at %j', (createdAt) => expect(indexOf('dify', runs, { ...key, createdAt })).toBe('no-month'));
});

describe('a name is recognised', () => {
  test('as the one that was made, for every table, tenant, month and prefix', () => {
    const prefix = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
    fc.assert(
      fc.property(prefix, fc.constantFrom(...all), fc.uuid(), fc.integer({ min: 1, max: 9999 }), fc.integer({ min: 1, max: 12 }), (name, connector, tenantId, year, month) => {
        const text = `${String(year).padStart(4, '0')}.${String(month).padStart(2, '0')}`;
        expect(parseIndexName(name, all, indexName(name, connector, tenantId, text))).toStrictEqual({ connector, tenantId, month: text });
      }),
    );
  });

  test.each([
    `dify-test-workflow-runs-${TENANT}-2025.10`, `workflow-runs-${TENANT}-2025.10`, `dify-workflow-runs-${TENANT}-2025.10-copy`, `dify-workflow-runs-${TENANT}-2025.13`, `dify-workflow-runs-${TENANT}-2025.00`, `dify-workflow-runs-${TENANT}-2025.1`,
    `dify-workflow-runs-${TENANT}`, `dify-workflow-runs-x-${TENANT}-2025.10`, `dify-workflow-runs-*-2025.10`, 'dify-cdc-state', `xdify-workflow-runs-${TENANT}-2025.10`, `dify-workflow-runs-${TENANT}-2025.10\n`, `.dify-workflow-runs-${TENANT}-2025.10`,
  ])('never as ours when it is %j', (name) => expect(parseIndexName('dify', all, name)).toBeUndefined());

  test('with a longer prefix it belongs to that one alone', () => {
    const name = indexName('dify-test', runs, TENANT, '2025.10');
    expect(parseIndexName('dify-test', all, name)?.tenantId).toBe(TENANT);
    expect(parseIndexName('dify', all, name)).toBeUndefined();
  });
});

describe('a pattern', () => {
  test('holds the indices of its own connector and of no other', () => {
    for (const asked of all) for (const other of all) expect(matches(indexPattern('dify', asked), indexName('dify', other, TENANT, '2025.10')), `${asked.index} ${other.index}`).toBe(asked === other);
  });

  test('does not hold the state, nor an index without a tenant and a month', () => {
    for (const name of ['dify-cdc-state', 'dify-workflow-runs', 'dify-workflow-runs-2025.10', `dify-workflow-runs-${TENANT}`]) for (const connector of all) expect(matches(indexPattern('dify', connector), name)).toBe(false);
  });

  test('of a tenant takes nothing but a uuid', () => {
    expect(tenantPattern('dify', runs, TENANT)).toBe(`dify-workflow-runs-${TENANT}-*.*`);
    expect(() => tenantPattern('dify', runs, '*')).toThrow(RangeError);
  });
});
