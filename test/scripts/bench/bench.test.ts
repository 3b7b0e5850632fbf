import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cutFile } from '../../../scripts/bench/bulk-file.ts';
import { readOptions } from '../../../scripts/bench/options.ts';
import { Meter } from '../../../scripts/bench/processes.ts';
import { median, percentile } from '../../../scripts/bench/statistics.ts';

test('a file of bulk items is cut between items alone, each bulk as soon as it has its size, nothing lost', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'dify-es-bench-'));
  try {
    const item = '{"index":{}}\n{"a":"1234567"}\n';
    writeFileSync(join(dir, 'items'), item.repeat(5));
    const cuts = await cutFile(join(dir, 'items'), item.length + 1);
    expect(cuts).toEqual([
      { start: 0, end: 2 * item.length, items: 2 }, { start: 2 * item.length, end: 4 * item.length, items: 2 }, { start: 4 * item.length, end: 5 * item.length, items: 1 },
    ]);
    writeFileSync(join(dir, 'torn'), `${item}{"index":{}}\n`);
    await expect(cutFile(join(dir, 'torn'), 100)).rejects.toThrow('middle of an item');
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('median and percentiles take no order for granted', () => {
  expect(median([9, 1, 5])).toBe(5);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(percentile([5, 1, 4, 2, 3], 0.5)).toBe(3);
  expect(percentile([5, 1, 4, 2, 3], 0.99)).toBe(5);
  expect(median([])).toBeNaN();
});

test('an option that is no number, or below its least, is named', () => {
  expect(readOptions(['--rows', '3000', '--sweep', '2x1, 8x4'])).toMatchObject({ rows: 3000, sweep: [{ megabytes: 2, connections: 1 }, { megabytes: 8, connections: 4 }] });
  expect(() => readOptions(['--pairs', 'many'])).toThrow('--pairs many');
  expect(() => readOptions(['--row-size', '200'])).toThrow('at least 1800');
  expect(() => readOptions(['--sweep', '8'])).toThrow('--sweep');
  expect(() => readOptions(['--fast'])).toThrow('--fast');
});

test.skipIf(process.platform !== 'linux')('the CPU of a process counts from when it was first looked at, a fresh one from its beginning', () => {
  const meter = new Meter();
  meter.program('known', process.pid);
  meter.program('fresh', process.pid, true);
  const usages = meter.stop();
  expect(usages['fresh']!.cpuSeconds).toBeGreaterThan(usages['known']!.cpuSeconds);
  expect(usages['fresh']!.highWaterMb).toBeGreaterThan(10);
});
