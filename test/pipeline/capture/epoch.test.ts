import { expect, test } from 'vitest';
import { parseLsn } from '../../../src/core/lsn.ts';
import type { EpochRecord } from '../../../src/core/state.ts';
import { decideEpoch, epochRecord, type ObservedSource } from '../../../src/pipeline/capture/epoch.ts';

const recorded: EpochRecord = { epoch: 4, systemIdentifier: '7361', timeline: 1, highWaterLsn: '10/500', slot: 'dify', at: '2026-01-01T00:00:00.000Z' };
const seen = (more: Partial<ObservedSource> & { current?: string; confirmed?: string } = {}): ObservedSource => ({
  systemIdentifier: '7361', timeline: 1, slot: 'dify', currentLsn: parseLsn(more.current ?? '10/900'), slotConfirmedLsn: parseLsn(more.confirmed ?? '10/500'), ...more,
});

test('the first reader begins with epoch 1, whatever the source is', () => {
  expect(decideEpoch(undefined, seen())).toMatchObject({ epoch: 1, changed: 'first', slotMoved: false, highWaterLsn: parseLsn('10/500') });
});

test('the same source goes on in its epoch', () => {
  expect(decideEpoch(recorded, seen())).toEqual({ epoch: 4, changed: null, slotMoved: false, reasons: [], highWaterLsn: parseLsn('10/500') });
});

test('a slot below the mark is no news: the confirmation was lost, or the server crashed', () => {
  expect(decideEpoch(recorded, seen({ confirmed: '10/100' }))).toMatchObject({ epoch: 4, changed: null, slotMoved: false, highWaterLsn: parseLsn('10/500') });
});

test('another system or timeline is another epoch, whose mark begins at its slot even where the LSNs are lower', () => {
  for (const other of [{ systemIdentifier: '9999' }, { timeline: 2 }]) {
    expect(decideEpoch(recorded, seen({ ...other, current: '2/900', confirmed: '2/500' }))).toMatchObject({ epoch: 5, changed: 'new-epoch', highWaterLsn: parseLsn('2/500') });
  }
});

test('the same system that ends below the mark was restored', () => {
  expect(decideEpoch(recorded, seen({ current: '10/4FF', confirmed: '10/100' }))).toMatchObject({ epoch: 5, changed: 'source-restored', highWaterLsn: parseLsn('10/100') });
});

test('LSNs are compared as numbers: A/0 lies below 10/0', () => {
  expect(decideEpoch({ ...recorded, highWaterLsn: '10/0' }, seen({ current: 'A/0', confirmed: '1/0' })).changed).toBe('source-restored');
});

test('a source that ends exactly at the mark is the same one', () => {
  expect(decideEpoch(recorded, seen({ current: '10/500' })).changed).toBeNull();
});

test('a slot above the mark was moved by somebody else, and so was another slot', () => {
  expect(decideEpoch(recorded, seen({ confirmed: '10/501' }))).toMatchObject({ epoch: 4, changed: null, slotMoved: true, highWaterLsn: parseLsn('10/501') });
  expect(decideEpoch(recorded, seen({ slot: 'other' }))).toMatchObject({ changed: null, slotMoved: true });
});

test('what is recorded is found unchanged by the next look', () => {
  const observed = seen({ timeline: 2, confirmed: '10/600' });
  const record = epochRecord(decideEpoch(recorded, observed), observed, new Date(0));
  expect(decideEpoch(record, observed)).toMatchObject({ epoch: 5, changed: null, slotMoved: false });
});
