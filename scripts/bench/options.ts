import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { LocalFault } from '../local/fault.ts';
import { CHECKOUT } from '../local/maven.ts';

export const USAGE = `usage: npm run bench [-- options]

  Raw _bulk and the pipeline side by side on servers of its own: a table, and JSON with --json. docs/06-performance.md
  says what each figure means.

  --rows N            rows of the data set (default 142000)
  --row-size BYTES    average text of a row, at least 1800 (default 4800)
  --data-type NAME    one kind of rows alone, as \`migrate --data-type\` has it; app_logs are rows of 0.3 kB
  --tenants N         default 5
  --partitions N      of each topic (default 6)
  --sinks N           processes of \`dify-es sink\` (default 1)
  --compression NAME  zstd, gzip or none (default zstd)
  --search-text       the pipeline writes search_text; the raw documents never have it
  --pairs N           raw and pipeline in turns, so many times (default 5)
  --sweep LIST        MB x connections tried for the limit (default 2x2,4x2,8x1,8x2,8x4,16x2)
  --changes N         transactions of Dify's pattern for the catch-up, 0: leave it out (default 60000)
  --rates LIST        writes a second for the latency, empty: leave it out (default 50,500)
  --seconds N         of each rate (default 20)
  --answer-delay MS   a proxy holds each answer to a bulk back so long, raw and pipeline alike (default 0: no proxy)
  --scale             1x, 3x and 10x of the rows, backfill only, and how the figures grow
  --json FILE         everything measured, as JSON
  --dir DIR           folder of the servers, emptied first (default .local/bench)`;

export interface Setting {
  readonly megabytes: number;
  readonly connections: number;
}

export interface BenchOptions {
  readonly rows: number;
  readonly rowSize: number;
  readonly dataType: string | undefined;
  readonly tenants: number;
  readonly partitions: number;
  readonly sinks: number;
  readonly compression: string;
  readonly searchText: boolean;
  readonly pairs: number;
  readonly sweep: readonly Setting[];
  readonly changes: number;
  readonly rates: readonly number[];
  readonly seconds: number;
  readonly answerDelayMs: number;
  readonly scale: boolean;
  readonly json: string | undefined;
  readonly dir: string;
}

/** Undefined when the usage was asked for. Throws a LocalFault that names the option. */
export function readOptions(args: readonly string[]): BenchOptions | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const compression = values.compression;
  if (!['zstd', 'gzip', 'none'].includes(compression)) throw new LocalFault(`--compression ${compression}: give zstd, gzip or none`);
  return {
    rows: whole('--rows', values.rows, 100),
    rowSize: whole('--row-size', values['row-size'], 1800),
    dataType: values['data-type'],
    tenants: whole('--tenants', values.tenants, 1),
    partitions: whole('--partitions', values.partitions, 1),
    sinks: whole('--sinks', values.sinks, 1),
    compression,
    searchText: values['search-text'],
    pairs: whole('--pairs', values.pairs, 1),
    sweep: list(values.sweep).map(settingOf),
    changes: whole('--changes', values.changes, 0),
    rates: list(values.rates).map((text) => whole('--rates', text, 1)),
    seconds: whole('--seconds', values.seconds, 1),
    answerDelayMs: whole('--answer-delay', values['answer-delay'], 0),
    scale: values.scale,
    json: values.json,
    dir: values.dir,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        rows: { type: 'string', default: '142000' },
        'row-size': { type: 'string', default: '4800' },
        'data-type': { type: 'string' },
        tenants: { type: 'string', default: '5' },
        partitions: { type: 'string', default: '6' },
        sinks: { type: 'string', default: '1' },
        compression: { type: 'string', default: 'zstd' },
        'search-text': { type: 'boolean', default: false },
        pairs: { type: 'string', default: '5' },
        sweep: { type: 'string', default: '2x2,4x2,8x1,8x2,8x4,16x2' },
        changes: { type: 'string', default: '60000' },
        rates: { type: 'string', default: '50,500' },
        seconds: { type: 'string', default: '20' },
        'answer-delay': { type: 'string', default: '0' },
        scale: { type: 'boolean', default: false },
        json: { type: 'string' },
        dir: { type: 'string', default: join(CHECKOUT, '.local/bench') },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    throw new LocalFault((error as Error).message);
  }
}

function whole(flag: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least) throw new LocalFault(`${flag} ${text}: give a whole number, at least ${least}`);
  return value;
}

function settingOf(text: string): Setting {
  const [megabytes, connections] = text.split('x');
  return { megabytes: whole('--sweep', megabytes ?? '', 1), connections: whole('--sweep', connections ?? '', 1) };
}

function list(text: string): string[] {
  return text.split(',').map((part) => part.trim()).filter(Boolean);
}
