import { expect, it } from 'vitest';
import type { RowVersion } from '../../../src/core/row-version.ts';
import { FIRST_OWN_VERSION } from '../../../src/core/row-version.ts';
import type { Documents, DocumentAddress } from '../../../src/ops/validate/documents.ts';
import type { Boundaries } from '../../../src/ops/validate/expectations.ts';
import { Rechecker } from '../../../src/ops/validate/recheck.ts';
import type { OpenTable, Source } from '../../../src/ops/validate/source.ts';

const TENANT = '11111111-1111-4111-8111-111111111111';
const ID = '22222222-2222-4222-8222-222222222222';
const INDEX = `dify-workflow-app-logs-${TENANT}-2025.10`;
const table = 'workflow_app_logs';
const known: Boundaries = {
  prefix: 'dify', switched: new Set(), retention: new Map(), archived: new Map(), accepted: new Set(), deletePolicy: 'apply', truncatedAt: new Map(), epoch: 1,
};

it('a document whose id is no uuid is surplus, and PostgreSQL is not asked for it', async () => {
  const asked: string[] = [];
  const source = {
    keysOf: (_: OpenTable, ids: readonly string[]) => (asked.push(...ids), Promise.resolve(new Map())),
    async *rowsOf(_: OpenTable, ids: readonly string[]) { asked.push(...ids); },
  } as unknown as Source;
  const documents = {
    mget: (addresses: readonly DocumentAddress[]) => Promise.resolve(addresses.map(({ index, id }) => ({ index, id, version: BigInt(FIRST_OWN_VERSION) + 5n, text: Buffer.alloc(0), source: null }))),
  } as unknown as Documents;
  const rechecker = new Rechecker({
    source, documents, boundaries: () => Promise.resolve(known), tables: new Map([[table, {} as OpenTable]]), expectedText: () => Buffer.alloc(0),
    drain: () => Promise.resolve((BigInt(FIRST_OWN_VERSION) + 9n) as RowVersion),
  });

  const { differences } = await rechecker.recheck([{ table, id: 'by-hand', foundIn: INDEX }, { table, id: ID, foundIn: INDEX }]);

  expect(new Set(asked)).toEqual(new Set([ID]));
  expect(differences.map((found) => [found.class, found.id]).sort()).toEqual([['extra', ID], ['extra', 'by-hand']]);
});

it('the document of a row that a TRUNCATE took is kept, also when the reader comes to the TRUNCATE only on the way to the drain point', async () => {
  const source = { keysOf: () => Promise.resolve(new Map()), async *rowsOf() {} } as unknown as Source;
  const documents = {
    mget: (addresses: readonly DocumentAddress[]) => Promise.resolve(addresses.map(({ index, id }) => ({ index, id, version: BigInt(FIRST_OWN_VERSION) + 5n, text: Buffer.alloc(0), source: null }))),
  } as unknown as Documents;
  const recorded = new Map<typeof table, bigint>();
  const rechecker = new Rechecker({
    source, documents, boundaries: () => Promise.resolve({ ...known, truncatedAt: new Map(recorded) }), tables: new Map([[table, {} as OpenTable]]), expectedText: () => Buffer.alloc(0),
    drain() {
      recorded.set(table, 7n);
      return Promise.resolve((BigInt(FIRST_OWN_VERSION) + 9n) as RowVersion);
    },
  });

  expect(await rechecker.recheck([{ table, id: ID, foundIn: INDEX }])).toEqual({ differences: [], apart: ['kept-by-policy'], inFlight: 0 });
});
