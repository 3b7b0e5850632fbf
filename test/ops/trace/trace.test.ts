import { describe, expect, it } from 'vitest';
import { parseLsn } from '../../../src/core/lsn.ts';
import { versionOfCommit } from '../../../src/core/row-version.ts';
import { readVersion, verdictOf, type TracedDocument, type TracedRecord, type TracedRow } from '../../../src/ops/trace/trace.ts';

const version = (lsn: string): string => String(versionOfCommit(2, parseLsn(lsn)));
const row: TracedRow = { tenantId: 't', createdAt: 'c', ctid: '(0,1)', xmin: '700', committedAt: null };
const record = (lsn: string, more: Partial<TracedRecord> = {}): TracedRecord => ({ offset: '1', tenantId: 't', createdAt: 'c', op: 'u', tombstone: false, bytes: 9, version: version(lsn), epoch: 2, lsn, time: '', settled: true, ...more });
const document = (digits: string): TracedDocument => ({ index: 'i', version: digits, ...readVersion(BigInt(digits)), seqNo: 1 });
const verdict = (records: TracedRecord[], documents: TracedDocument[], there: TracedRow | null = row): string => verdictOf({ row: there, records, documents, letters: [] });

describe('the verdict on a row\'s way', () => {
  it('compares all digits: neighbours above 2^53 are not the same', () => {
    expect(verdict([record('0/501')], [document(version('0/501'))])).toBe('the document is its last record');
    expect(verdict([record('0/501')], [document(version('0/500'))])).toContain('older than its last record');
    expect(verdict([record('0/501')], [document(version('0/502'))])).toContain('newer than its last record');
  });

  it('says where it is held up', () => {
    expect(verdict([record('0/501', { settled: false })], [])).toContain('the sinks have not come');
    expect(verdict([record('0/501')], [])).toContain('its document is missing');
    expect(verdict([], [])).toContain('never came to Kafka');
    expect(verdictOf({ row, records: [record('0/501')], documents: [], letters: [{ id: '0:7', state: 'open', cause: 'refused', version: null, at: '' }] })).toContain('dlq show 0:7');
  });

  it('knows a delete on both ends, on one, and a row that is nowhere', () => {
    const gone = record('0/501', { tombstone: true });
    expect(verdict([gone], [], null)).toBe('deleted on both ends');
    expect(verdict([gone], [document(version('0/400'))], null)).toContain('a document is there');
    expect(verdict([], [], null)).toBe('it is nowhere');
    expect(verdict([], [document('3')], null)).toContain('only a document is left');
  });

  it('reads epoch and LSN out of a version, and none out of one that Dify gave', () => {
    expect(readVersion(BigInt(version('A/501')))).toEqual({ epoch: 2, lsn: 'A/501' });
    expect(readVersion(7n)).toEqual({ epoch: null, lsn: null });
  });
});
