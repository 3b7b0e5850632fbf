import Table from 'cli-table3';
import { formatBytes, formatCount } from '../../src/cli/format.ts';
import type { SizeResult } from './measure.ts';
import type { Usages } from './processes.ts';
import { bestOf } from './raw.ts';
import type { RoundResult } from './rounds.ts';
import { median } from './statistics.ts';

/** One line of the table: medians over the pairs. */
export interface Figure {
  readonly name: string;
  readonly perSecond: number;
  /** Of the raw limit: the best median or single rate that raw _bulk reached in this run. */
  readonly ratio: number;
  /** Microseconds of CPU a row, by process. */
  readonly cpuMicros: Readonly<Record<string, number>>;
  /** The most that any of the rounds saw, by process. */
  readonly highWaterMb: Readonly<Record<string, number>>;
}

/** Programs of ours; the rest of the processes are servers and the bench. */
const OWN = ['stream', 'migrate', 'sink'];

/** The best that raw _bulk reached anywhere in the run, rows a second. */
export function limitOf({ before, after, pairs }: SizeResult): number {
  return Math.max(bestOf(before).rowsPerSecond, bestOf(after).rowsPerSecond, median(pairs.map(({ raw }) => raw.rowsPerSecond)));
}

export function figuresOf(result: SizeResult): readonly Figure[] {
  const { pairs, catchUps, before, after } = result;
  const limit = limitOf(result);
  const figure = (name: string, rounds: readonly Pick<RoundResult, 'rows' | 'rowsPerSecond' | 'usages'>[]): Figure[] =>
    rounds.length === 0 ? [] : [{ name, perSecond: median(rounds.map(({ rowsPerSecond }) => rowsPerSecond)), ratio: median(rounds.map(({ rowsPerSecond }) => rowsPerSecond)) / limit, ...usageOf(rounds) }];
  return [
    ...figure('raw _bulk, best before', [bestOf(before)]),
    ...figure('raw _bulk, best after', [bestOf(after)]),
    ...figure('raw _bulk, in the pairs', pairs.map(({ raw }) => raw)),
    ...figure('backfill end to end', pairs.map(({ endToEnd }) => endToEnd)),
    ...figure('backfill to Kafka', pairs.map(({ kafka }) => kafka)),
    ...figure('replay from Kafka', pairs.map(({ replay }) => replay)),
    ...figure('catch-up (changes)', catchUps),
  ];
}

function usageOf(rounds: readonly { readonly rows: number; readonly usages: Usages }[]): Pick<Figure, 'cpuMicros' | 'highWaterMb'> {
  const names = [...new Set(rounds.flatMap(({ usages }) => Object.keys(usages)))];
  return {
    cpuMicros: Object.fromEntries(names.map((name) => [name, median(rounds.map(({ rows, usages }) => ((usages[name]?.cpuSeconds ?? 0) * 1e6) / rows))])),
    highWaterMb: Object.fromEntries(names.map((name) => [name, Math.max(...rounds.map(({ usages }) => usages[name]?.highWaterMb ?? 0))])),
  };
}

export function describeSize(result: SizeResult): string {
  const figures = figuresOf(result);
  const names = ['PostgreSQL', 'Kafka', 'Elasticsearch', ...OWN, 'raw _bulk'];
  const table = new Table({ head: ['median of the pairs', 'rows/s', 'of the limit', ...names.map((name) => `${name} µs/row`), 'ours µs/row', 'ours MB'], style: { head: [], border: [] } });
  for (const { name, perSecond, ratio, cpuMicros, highWaterMb } of figures) {
    const ours = OWN.reduce((sum, one) => sum + (cpuMicros[one] ?? 0), 0);
    const memory = OWN.flatMap((one) => (highWaterMb[one] ? [`${one} ${highWaterMb[one]}`] : [])).join(', ');
    table.push([name, formatCount(perSecond), ratio.toFixed(2), ...names.map((one) => (cpuMicros[one] === undefined ? '' : cpuMicros[one].toFixed(0))), ours === 0 ? '' : ours.toFixed(0), memory]);
  }
  const { before, pairs, textBytes, rows } = result;
  const best = bestOf(before);
  const kafkaBytes = pairs[0]?.kafka.kafkaBytes ?? 0;
  return [
    `${formatCount(rows)} rows: ${formatBytes(textBytes)} of text in PostgreSQL, ${formatBytes(kafkaBytes)} in Kafka, ${formatBytes(best.bytes)} of bulk bodies`,
    table.toString(),
    `within each pair: ${pairs.map(({ raw, endToEnd }) => (endToEnd.rowsPerSecond / raw.rowsPerSecond).toFixed(2)).join(', ')} of the raw rate end to end`,
    sweepLine('sweep before', result.before),
    sweepLine('sweep after', result.after),
    ...(result.latencies.length === 0 ? [] : [describeLatencies(result)]),
  ].join('\n');
}

function sweepLine(name: string, results: SizeResult['before']): string {
  return `${name}: ${results.map(({ megabytes, connections, rowsPerSecond }) => `${megabytes} MB x ${connections}: ${formatCount(rowsPerSecond)}/s`).join('; ')}`;
}

function describeLatencies({ latencies }: SizeResult): string {
  const table = new Table({ head: ['commit until', 'refresh interval', 'writes/s', 'reached', 'samples', 'p50 ms', 'p99 ms', 'max ms'], style: { head: [], border: [] } });
  for (const { rate, reached, refresh, get, search } of latencies) {
    for (const [name, spread] of [['GET', get], ['search', search]] as const) {
      if (spread === null) continue;
      const { samples, p50, p99, max } = spread;
      table.push([name, refresh, rate, reached.toFixed(0), samples, p50.toFixed(1), p99.toFixed(1), max.toFixed(1)]);
    }
  }
  return table.toString();
}

/** How the figures of the larger sizes stand to those of the first. */
export function describeGrowth(results: readonly SizeResult[]): string {
  const [first, ...others] = results.map((result) => ({ rows: result.rows, figures: figuresOf(result) }));
  const table = new Table({ head: ['against the first size', 'rows', 'ratio to the limit', 'our peak memory'], style: { head: [], border: [] } });
  for (const { rows, figures } of others) {
    for (const [at, { name, ratio, highWaterMb }] of figures.entries()) {
      const base = first?.figures[at];
      if (!base || name.startsWith('raw')) continue;
      table.push([name, formatCount(rows), `${base.ratio.toFixed(2)} → ${ratio.toFixed(2)} (x ${(ratio / base.ratio).toFixed(2)})`, `${peak(base.highWaterMb)} → ${peak(highWaterMb)} MB (x ${(peak(highWaterMb) / peak(base.highWaterMb)).toFixed(2)})`]);
    }
  }
  return table.toString();
}

function peak(highWaterMb: Readonly<Record<string, number>>): number {
  return Math.max(...OWN.map((name) => highWaterMb[name] ?? 0));
}
