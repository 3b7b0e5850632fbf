import { describe, expect, it } from 'vitest';
import { fits, forecast, type ForecastInput } from '../../../src/ops/estimate/forecast.ts';
import type { Group } from '../../../src/ops/estimate/groups.ts';
import type { Probe } from '../../../src/ops/estimate/probe.ts';

const TENANT = '11111111-1111-4111-8111-111111111111';
const group = (over: Partial<Group> = {}): Group => ({ table: 'workflow_runs', tenantId: TENANT, month: '2025.10', rows: 1000, bytes: 5_000_000, ...over });
const probe = (over: Partial<Probe> = {}): Probe => ({
  table: 'workflow_runs', rows: 100, avroBytes: 500_000, packedBytes: 100_000, documentBytes: 600_000, storedBytes: 150_000, invalidJson: 1,
  refused: { 'no-month': 0, 'bad-key': 0, 'row-too-large': 2, 'too-large-for-elasticsearch': 0 }, seconds: 0.5, ...over,
});
const input = (over: Partial<ForecastInput> = {}): ForecastInput => ({
  groups: [group()], probes: [probe()], existing: new Set(), indexOf: ({ tenantId, month }) => `i-${tenantId}-${month}`,
  shards: 1, replicas: 0, freeShards: 10, oldestKeptMonth: '2025.09', walBytesPerSecond: 1000, freeDiskBytes: 1e9, wrongMapping: [], walLimitBytes: null, ...over,
});

describe('the forecast', () => {
  it('scales what the sample showed to the rows that were counted', () => {
    const [table] = forecast(input()).tables;
    expect(table).toMatchObject({ rows: 1000, bytes: 5_000_000, kafkaBytes: 1_000_000, invalidJson: 10, refused: 20, sampled: 100 });
    expect(table!.elasticBytes).toBe(Math.round(1_500_000 * 1.3));
  });

  it('counts the indices to come, not those that exist, with all their copies', () => {
    const months = ['2025.09', '2025.10', '2025.11'].map((month) => group({ month }));
    const { newIndices, newShards } = forecast(input({ groups: months, existing: new Set([`i-${TENANT}-2025.10`]), shards: 2, replicas: 1 }));
    expect({ newIndices, newShards }).toEqual({ newIndices: 2, newShards: 8 });
  });

  it('says no when the cluster does not take the shards', () => {
    expect(forecast(input({ freeShards: 0 })).shardsFit).toBe(false);
    expect(forecast(input({ freeShards: 1 })).shardsFit).toBe(true);
  });

  it('says no when the disks do not take the documents, or an index was made by hand', () => {
    const answers = [{}, { freeDiskBytes: 1000 }, { freeDiskBytes: null }, { wrongMapping: ['i'] }, { freeShards: 0 }].map((over) => fits(forecast(input(over))));
    expect(answers).toEqual([true, false, true, false, false]);
  });

  it('counts rows of whole months before the boundary as outside retention, and makes no index for rows without a month', () => {
    const groups = [group({ month: '2025.08', rows: 7 }), group({ month: '2025.09', rows: 5 }), group({ month: '-', rows: 3 })];
    const result = forecast(input({ groups }));
    expect(result.tables[0]!.outsideRetention).toBe(7);
    expect(result.newIndices).toBe(2);
  });

  it('forecasts time and WAL from the measured speed', () => {
    expect(forecast(input())).toMatchObject({ secondsAtLeast: 5, walBytes: 5000 });
  });
});
