import { describe, expect, it } from 'vitest';
import type { DeadLetter } from '../../../src/core/contracts.ts';
import { parseLsn } from '../../../src/core/lsn.ts';
import { versionOfCommit } from '../../../src/core/row-version.ts';
import { decide } from '../../../src/ops/dead-letters/decide.ts';
import type { Boundaries } from '../../../src/ops/validate/expectations.ts';

const TENANT = '11111111-1111-4111-8111-111111111111';
const key = { tenantId: TENANT, createdAt: '2025-10-10 08:25:41', id: '22222222-2222-4222-8222-222222222222' };
const value = Buffer.from('a row');
const letter = (more: Partial<DeadLetter> = {}): DeadLetter => ({ cause: 'refused', detail: '', table: 'workflow_runs', key, version: versionOfCommit(1, parseLsn('0/500')), origin: { stage: 'sink', partition: 0, offset: '7' }, value, ...more });
const known = (more: Partial<Boundaries> = {}): Boundaries => ({ prefix: 'p', switched: new Set(), retention: new Map(), archived: new Map(), accepted: new Set(), deletePolicy: 'apply', truncatedAt: new Map(), epoch: 1, ...more });

describe('what becomes of a dead letter', () => {
  it('is its own document, written with its own version, while its row is there under its key', () => {
    expect(decide(letter(), key, known(), false)).toEqual({ kind: 'write' });
    expect(decide(letter({ cause: 'too-large-for-elasticsearch' }), key, known(), false)).toEqual({ kind: 'write' });
  });

  it('is nothing once its row was deleted or has another key: Elasticsearch has forgotten the delete by then', () => {
    expect(decide(letter(), undefined, known(), false)).toEqual({ kind: 'settled', why: 'gone' });
    expect(decide(letter(), { ...key, createdAt: '2025-11-01 00:00:00' }, known(), false)).toEqual({ kind: 'settled', why: 'moved' });
    expect(decide(letter({ cause: 'row-too-large', value: null }), undefined, known(), false)).toEqual({ kind: 'settled', why: 'gone' });
  });

  it('is written without a row only where a policy keeps history, and then only if the log has nothing newer of it', () => {
    expect(decide(letter(), undefined, known({ deletePolicy: 'ignore' }), false)).toEqual({ kind: 'write-if-last' });
    expect(decide(letter(), undefined, known({ truncatedAt: new Map([['workflow_runs', parseLsn('0/600')]]) }), false)).toEqual({ kind: 'write-if-last' });
    expect(decide(letter(), undefined, known({ truncatedAt: new Map([['workflow_runs', parseLsn('0/400')]]) }), false)).toEqual({ kind: 'settled', why: 'gone' });
  });

  it('is read again from PostgreSQL where the letter holds no row', () => {
    for (const cause of ['row-too-large', 'row-gone', 'undecodable'] as const) expect(decide(letter({ cause, value: null }), key, known(), false)).toEqual({ kind: 'reread' });
    expect(decide(letter({ cause: 'undecodable' }), key, known(), false)).toEqual({ kind: 'reread' });
  });

  it('is the delete itself for a refused delete, with or without a row: the version decides', () => {
    for (const place of [undefined, key, { ...key, tenantId: key.id }]) expect(decide(letter({ value: null }), place, known(), false)).toEqual({ kind: 'write' });
  });

  it('waits for --force where the tenant is switched, and what only Kafka can carry waits for ever', () => {
    const switched = known({ switched: new Set([TENANT]) });
    expect(decide(letter(), key, switched, false)).toEqual({ kind: 'left', why: 'switched' });
    expect(decide(letter(), key, switched, true)).toEqual({ kind: 'write' });
    expect(decide(letter({ cause: 'row-too-large', value: null }), key, switched, true)).toEqual({ kind: 'left', why: 'switched' });
  });

  it('is settled where retention dropped its month, and left where nothing names its row', () => {
    expect(decide(letter(), key, known({ retention: new Map([[TENANT, '2025.10']]) }), false)).toEqual({ kind: 'settled', why: 'expired' });
    expect(decide(letter(), key, known({ retention: new Map([[TENANT, '2025.09']]) }), false)).toEqual({ kind: 'write' });
    expect(decide(letter({ cause: 'bad-key', key: null }), undefined, known(), false)).toEqual({ kind: 'left', why: 'no-key' });
    expect(decide(letter({ cause: 'bad-key', key: { ...key, id: 'no uuid' } }), undefined, known(), false)).toEqual({ kind: 'left', why: 'no-key' });
  });
});
