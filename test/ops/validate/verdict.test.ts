import { describe, expect, it } from 'vitest';
import type { Row } from '../../../src/core/contracts.ts';
import { FIRST_OWN_VERSION, type RowVersion } from '../../../src/core/row-version.ts';
import { boundariesFrom, expectationOfRow, verdictOfSurplus, type Boundaries } from '../../../src/ops/validate/expectations.ts';
import { skipValue } from '../../../src/ops/validate/json-compare.ts';
import type { FoundDocument } from '../../../src/ops/validate/raw-documents.ts';
import { tombstoneKey } from '../../../src/ops/validate/repairer.ts';
import { withoutDoubles } from '../../../src/ops/validate/validate.ts';
import { judge, type Evidence, type SeenRow } from '../../../src/ops/validate/verdict.ts';
import { parseIndexName } from '../../../src/pipeline/sink/index-name.ts';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import { cellsOf, textsOf } from '../../support/cells.ts';

const TENANT = '11111111-1111-4111-8111-111111111111';
const ID = '22222222-2222-4222-8222-222222222222';
const INDEX = `dify-workflow-app-logs-${TENANT}-2025.10`;
const OTHER = `dify-workflow-app-logs-${TENANT}-2025.09`;
const table = 'workflow_app_logs';
const known: Boundaries = {
  prefix: 'dify', switched: new Set(), retention: new Map(), archived: new Map(), accepted: new Set(), deletePolicy: 'apply', truncatedAt: new Map(), epoch: 2,
};
const at = (epoch: number, position: number): bigint => BigInt(epoch) * FIRST_OWN_VERSION + BigInt(position);

function row(xmin = '7', createdAt = '2025-10-10 08:25:41', name = 'a'): SeenRow {
  const columns = ['id', 'tenant_id', 'created_at', 'created_from'];
  const cells = [ID, TENANT, createdAt, name].map((text) => Buffer.from(text));
  return { key: { id: ID, tenantId: TENANT, createdAt }, xmin, row: { shape: { table, columns }, cells: cellsOf(cells) } };
}

const text = (row: Row): Buffer => Buffer.from(JSON.stringify(textsOf(row)));

function document(index: string, source: object | null, version = at(2, 100)): FoundDocument {
  const whole = Buffer.from(JSON.stringify(source));
  return { index, id: ID, version, text: whole, source: source && { start: 0, end: skipValue(whole, 0) } };
}

const same = document(INDEX, { id: ID, tenant_id: TENANT, created_at: '2025-10-10 08:25:41', created_from: 'a' });
const quiet: Evidence = { before: row(), after: row(), expectedDocument: same, foundDocument: null, drainVersion: at(2, 1000) as RowVersion };
const suspect = { table, id: ID, foundIn: null } as const;
const look = (foundIn: string | null, seen: Partial<Evidence>, boundaries: Partial<Boundaries> = {}) =>
  judge({ ...suspect, foundIn }, { ...quiet, ...seen }, text, { ...known, ...boundaries });

describe('the verdict on a row', () => {
  it('is equal for the same content', () => expect(look(null, {})).toEqual({ kind: 'equal' }));

  it('is missing without a document', () => {
    expect(look(null, { expectedDocument: null })).toMatchObject({ kind: 'difference', difference: { class: 'missing', table, tenantId: TENANT, month: '2025.10', id: ID, index: INDEX } });
  });

  it('is stale with other content, and names the fields and no value', () => {
    const found = look(null, { expectedDocument: document(INDEX, { id: ID, tenant_id: TENANT, created_at: '2025-10-10 08:25:41', created_from: 'secret', more: 1 }) });
    expect(found).toMatchObject({ kind: 'difference', difference: { class: 'stale', fields: ['created_from', 'more'] } });
    expect(JSON.stringify(found)).not.toContain('secret');
  });

  it('waits for a row that changed since, that appeared and that went', () => {
    const gone = { expectedDocument: null };
    expect(look(null, { ...gone, after: row('8') })).toEqual({ kind: 'moving' });
    expect(look(null, { ...gone, before: null })).toEqual({ kind: 'moving' });
    expect(look(null, { ...gone, after: null })).toEqual({ kind: 'moving' });
  });

  it('is no difference for a tenant that was switched, a month that was dropped, a row that was accepted', () => {
    const gone = { expectedDocument: null };
    expect(look(null, gone, { switched: new Set([TENANT]) })).toEqual({ kind: 'apart', why: 'switched' });
    expect(look(null, gone, { retention: new Map([[TENANT, '2025.10']]) })).toEqual({ kind: 'apart', why: 'expired' });
    expect(look(null, gone, { retention: new Map([[TENANT, '2025.09']]) })).toMatchObject({ kind: 'difference' });
    expect(look(null, gone, { accepted: new Set([`${table}/${ID}`]) })).toEqual({ kind: 'apart', why: 'accepted' });
    expect(look(null, { ...gone, before: row('7', 'infinity'), after: row('7', 'infinity') })).toEqual({ kind: 'apart', why: 'no-month' });
  });
});

describe('the verdict on a document in another index than its row\'s', () => {
  it('is wrong-index and says where it belongs and whether it is missing there', () => {
    const foundDocument = document(OTHER, { created_at: '2025-09-10T08:25:41' });
    expect(look(OTHER, { foundDocument })).toMatchObject({ kind: 'difference', difference: { class: 'wrong-index', index: OTHER, belongsIn: INDEX, missingThere: false, month: '2025.09' } });
    expect(look(OTHER, { foundDocument, expectedDocument: null })).toMatchObject({ difference: { missingThere: true } });
  });

  it('is none once the document has gone, and waits while its version is behind the drain point', () => {
    expect(look(OTHER, {})).toEqual({ kind: 'equal' });
    expect(look(OTHER, { foundDocument: document(OTHER, {}, at(2, 1001)) })).toEqual({ kind: 'moving' });
  });

  it('is left apart below version 2^52, which Dify wrote, and the row is missing where it belongs', () => {
    const foundDocument = document(OTHER, {}, FIRST_OWN_VERSION - 1n);
    expect(look(OTHER, { foundDocument })).toEqual({ kind: 'apart', why: 'dify-own' });
    expect(look(OTHER, { foundDocument }, { retention: new Map([[TENANT, '2025.10']]) })).toEqual({ kind: 'apart', why: 'dify-own' });
    const missing = look(OTHER, { foundDocument, expectedDocument: null });
    expect(missing).toEqual(look(null, { expectedDocument: null }));
    expect(missing).toMatchObject({ difference: { class: 'missing', index: INDEX } });
  });

  it('is one difference of a row, as is one that was seen to be missing twice', () => {
    const place = { table, tenantId: TENANT, month: '2025.10', index: INDEX } as const;
    const [missing, other] = [{ class: 'missing', ...place, id: ID }, { class: 'missing', ...place, id: 'other' }] as const;
    const wrong = { class: 'wrong-index', ...place, id: ID, belongsIn: INDEX, missingThere: true } as const;
    expect(withoutDoubles([missing, missing, other])).toEqual([missing, other]);
    expect(withoutDoubles([missing, wrong, other])).toEqual([wrong, other]);
  });
});

describe('the verdict on a document without a row', () => {
  const alone = { before: null, after: null, expectedDocument: null };
  const extra = document(OTHER, { created_at: '2025-09-10T08:25:41.5' });
  const verdict = (boundaries: Partial<Boundaries>, foundDocument = extra) => look(OTHER, { ...alone, foundDocument }, boundaries);

  it('is extra', () => expect(verdict({})).toMatchObject({ kind: 'difference', difference: { class: 'extra', id: ID, index: OTHER } }));
  it('is none once the document has gone', () => expect(look(OTHER, alone)).toEqual({ kind: 'equal' }));
  it('waits for a document written behind the drain point', () => expect(verdict({}, document(OTHER, {}, at(2, 1001)))).toEqual({ kind: 'moving' }));
  it('is Dify\'s own below version 2^52', () => expect(verdict({}, document(OTHER, {}, FIRST_OWN_VERSION - 1n))).toEqual({ kind: 'apart', why: 'dify-own' }));

  it('is archived before the boundary of cleanup-pg and extra from it on', () => {
    const before = (date: string) => ({ archived: new Map([[`${TENANT}/${table}`, date]]) });
    expect(verdict(before('2025-09-11'))).toEqual({ kind: 'apart', why: 'archived' });
    expect(verdict(before('2025-09-10'))).toMatchObject({ kind: 'difference' });
    expect(verdict(before('2025-09-10 08:25:41.5'))).toMatchObject({ kind: 'difference' });
    expect(verdict(before('2025-09-11'), document(OTHER, {}))).toEqual({ kind: 'apart', why: 'archived' });
  });

  it('is kept by a policy under DELETE_POLICY=ignore and before a TRUNCATE that was ignored', () => {
    expect(verdict({ deletePolicy: 'ignore' })).toEqual({ kind: 'apart', why: 'kept-by-policy' });
    const truncatedAt = new Map([[table, 100n]] as const);
    expect(verdict({ truncatedAt }, document(OTHER, {}, at(2, 99)))).toEqual({ kind: 'apart', why: 'kept-by-policy' });
    expect(verdict({ truncatedAt }, document(OTHER, {}, at(1, 500)))).toEqual({ kind: 'apart', why: 'kept-by-policy' });
    expect(verdict({ truncatedAt })).toMatchObject({ kind: 'difference' });
    expect(verdict({ truncatedAt: new Map([['workflow_runs', 500n]] as const) })).toMatchObject({ kind: 'difference' });
  });

  it('is left alone for a switched tenant and for a dropped month', () => {
    const where = parseIndexName('dify', [CONNECTORS[table]], OTHER)!;
    expect(verdictOfSurplus(where, at(2, 5), null, { ...known, switched: new Set([TENANT]) })).toBe('switched');
    expect(verdictOfSurplus(where, at(2, 5), null, { ...known, retention: new Map([[TENANT, '2025.09']]) })).toBe('expired');
  });
});

describe('the boundaries on the control topic', () => {
  it('are read by their keys, an applied TRUNCATE being none', () => {
    const records: Record<string, unknown> = {
      'epoch': { epoch: 3 },
      [`tenant/switched/${TENANT}`]: { tenantId: TENANT },
      [`tenant/retention/${TENANT}`]: { tenantId: TENANT, throughMonth: '2025.01' },
      [`tenant/archived/${TENANT}/${table}`]: { tenantId: TENANT, table, before: '2025-05-01' },
      'truncate/workflow_runs/0/10': { table: 'workflow_runs', lsn: '0/10', applied: false },
      'truncate/workflow_runs/0/9': { table: 'workflow_runs', lsn: '0/9', applied: false },
      'truncate/workflow_app_logs/0/20': { table, lsn: '0/20', applied: true },
    };
    const control = {
      get: <T>(key: string) => records[key] as T | undefined,
      entries: <T>(prefix: string) => Object.entries(records).filter(([key]) => key.startsWith(prefix)) as [string, T][],
    };
    const found = boundariesFrom(control, { prefix: 'dify', deletePolicy: 'apply', accepted: new Set() });
    expect(found.epoch).toBe(3);
    expect(found.truncatedAt).toEqual(new Map([['workflow_runs', 16n]]));
    expect(expectationOfRow(table, row().key, found)).toMatchObject({ kind: 'none', why: 'switched' });
    expect(found.retention.get(TENANT)).toBe('2025.01');
    expect(found.archived.get(`${TENANT}/${table}`)).toBe('2025-05-01');
  });
});

describe('the key of a tombstone', () => {
  const place = { table, index: OTHER, id: ID } as const;
  it('is the row\'s own, as PostgreSQL prints it, where the document tells it', () => {
    expect(tombstoneKey(place, '2025-09-10T08:25:41.120000', 'dify')).toEqual({ tenantId: TENANT, createdAt: '2025-09-10 08:25:41.12', id: ID });
    expect(tombstoneKey(place, '2025-09-10T08:25:40', 'dify')?.createdAt).toBe('2025-09-10 08:25:40');
    expect(tombstoneKey(place, '2025-09-10T08:25:41.000000', 'dify')?.createdAt).toBe('2025-09-10 08:25:41');
  });
  it('is any of the index where the document is silent or speaks of another month', () => {
    expect(tombstoneKey(place, null, 'dify')?.createdAt).toBe('2025-09-01 00:00:00');
    expect(tombstoneKey(place, '2025-10-10T08:25:41', 'dify')?.createdAt).toBe('2025-09-01 00:00:00');
  });
  it('is none for what no row can have been', () => {
    expect(tombstoneKey({ ...place, id: 'x' }, null, 'dify')).toBeUndefined();
    expect(tombstoneKey({ ...place, index: `other-workflow-app-logs-${TENANT}-2025.09` }, null, 'dify')).toBeUndefined();
  });
});
