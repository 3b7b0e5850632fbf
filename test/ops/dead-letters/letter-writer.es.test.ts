import { describe, expect, it } from 'vitest';
import { LetterWriter } from '../../../src/ops/dead-letters/letter-writer.ts';
import type { StoredLetter } from '../../../src/pipeline/kafka/dead-letters.ts';
import { isolate } from '../../support/servers.ts';
import { clientOf, harness, Log, newId, putTemplates } from '../../pipeline/sink/sink-harness.ts';
import { TENANT } from '../../pipeline/sink/documents-of.ts';

const here = isolate(import.meta.filename);
const client = clientOf(here.elasticsearchUrl);
const log = new Log();
const writer = new LetterWriter({
  client, prefix: here.indexPrefix, row: log.decode.row, searchTextBytes: 0, maxBulkBytes: 1 << 20, signal: new AbortController().signal, onTrouble: () => {}, onRecovered: () => {},
});

let letters = 0;
/** A letter as the sink parks it. */
function letter(id: string, version: number, values: Record<string, string> | null): StoredLetter {
  const record = values === null ? log.tombstone(id, version) : log.row(id, version, values);
  return {
    id: `0:${letters++}`, state: 'open', attempts: 0, at: '', cause: 'refused', detail: '', table: 'workflow_runs', key: { tenantId: TENANT, createdAt: '2025-10-10 08:25:41.123456', id },
    version: record.headers.version, origin: { stage: 'sink', partition: 0, offset: '0' }, value: record.value,
  };
}

describe('a letter sent again', () => {
  it('loses to a newer document, and to one of its own version: that is another change of the same transaction', async () => {
    await putTemplates(client, here.indexPrefix);
    const { handle, document } = harness(client, log, here.indexPrefix);
    const [free, tied, newer] = [newId(), newId(), newId()];
    await handle(log, [log.row(tied, 20, { status: 'second of the transaction' }), log.row(newer, 30, { status: 'later' })]);
    const some = [letter(free, 20, { status: 'parked' }), letter(tied, 20, { status: 'first of the transaction' }), letter(newer, 20, { status: 'parked' })];
    const outcomes = await writer.write(some);
    expect(some.map(({ id }) => outcomes.get(id)?.kind)).toEqual(['applied', 'stale', 'stale']);
    expect((await document(log, free))?.source).toMatchObject({ status: 'parked' });
    expect((await document(log, tied))?.source).toMatchObject({ status: 'second of the transaction' });
    expect((await document(log, newer))?.source).toMatchObject({ status: 'later' });
  });

  it('of a batch: the newest letter of a document is written, a refused delete deletes, and none creates an index', async () => {
    const { handle, document } = harness(client, log, here.indexPrefix);
    const [twice, deleted] = [newId(), newId()];
    await handle(log, [log.row(deleted, 10, { status: 'old' })]);
    const elsewhere = { ...letter(newId(), 20, null), key: { tenantId: TENANT, createdAt: '2019-01-01 00:00:00', id: newId() } };
    const some = [letter(twice, 22, { status: 'newer' }), letter(twice, 21, { status: 'older' }), letter(deleted, 20, null), elsewhere];
    const outcomes = await writer.write(some);
    expect(some.map(({ id }) => outcomes.get(id)?.kind)).toEqual(['applied', 'superseded', 'applied', 'applied']);
    expect((await document(log, twice))?.source).toMatchObject({ status: 'newer' });
    expect(await document(log, deleted)).toBeUndefined();
    expect(await client.indices.exists({ index: `${here.indexPrefix}-workflow-runs-${TENANT}-2019.01` })).toBe(false);
  });

  it('says why it failed where it has no index, no version, or is no row', async () => {
    const some = [
      { ...letter(newId(), 20, { status: 'a' }), key: { tenantId: TENANT, createdAt: 'infinity', id: newId() } },
      { ...letter(newId(), 20, { status: 'a' }), version: null },
      { ...letter(newId(), 20, { status: 'a' }), value: Buffer.from('no row of this program') },
    ];
    const outcomes = await writer.write(some);
    expect(some.map(({ id }) => outcomes.get(id))).toMatchObject([{ kind: 'failed', cause: 'no-month' }, { kind: 'failed', cause: 'undecodable' }, { kind: 'failed', cause: 'undecodable' }]);
  });
});
