import { formatBytes, formatCount, formatDuration } from '../../src/cli/format.ts';
import type { DatasetCounts } from '../../test/support/dify/generator.ts';
import { verb } from './program.ts';

export interface DemoFigures {
  readonly loaded: DatasetCounts;
  readonly migrateSeconds: number;
  readonly transactions: number;
  readonly totalSeconds: number;
  readonly equal: boolean;
}

interface Status {
  readonly slot?: { readonly lagBytes?: number; readonly lagSeconds?: number };
  readonly indices?: readonly { readonly index: string; readonly documents: number; readonly bytes: number }[];
}

/** What the demo showed, in figures of this run. */
export async function closingReport(env: Readonly<Record<string, string | undefined>>, figures: DemoFigures): Promise<string> {
  const { loaded, migrateSeconds } = figures;
  const status = JSON.parse((await verb(env, ['status', '--json'], false)).stdout || '{}') as Status;
  const indices = status.indices ?? [];
  const lines = [
    '',
    '── Report',
    `backfill      ${formatCount(loaded.totalRows)} rows in ${formatDuration(migrateSeconds)}: ${formatCount(loaded.totalRows / migrateSeconds)} rows/s, ${formatBytes(loaded.textBytes / migrateSeconds)}/s`,
    `live writer   ${formatCount(figures.transactions)} transactions meanwhile`,
    ...(status.slot ? [`lag           ${formatBytes(status.slot.lagBytes ?? 0)}, ${(status.slot.lagSeconds ?? 0).toFixed(1)} s`] : []),
    `documents     ${formatCount(indices.reduce((sum, { documents }) => sum + documents, 0))} in ${indices.length} indices`,
    ...indices.map(({ index, documents, bytes }) => `              ${formatCount(documents).padStart(8)}  ${formatBytes(bytes).padStart(9)}  ${index}`),
    `whole demo    ${formatDuration(figures.totalSeconds)}`,
    figures.equal ? 'equal' : 'NOT EQUAL',
  ];
  return lines.join('\n');
}
