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

interface Slot {
  readonly lagBytes: number | null;
  readonly lagSeconds: number | null;
}

/** The parts of `status --json` that are shown here; a part that could not be read has no value. */
interface Status {
  readonly source?: { readonly value?: { readonly slot: Slot | null } };
  readonly elasticsearch?: { readonly value?: { readonly indices: readonly { readonly index: string; readonly documents: number; readonly bytes: number }[] } };
}

/** What the demo showed, in figures of this run. */
export async function closingReport(env: Readonly<Record<string, string | undefined>>, figures: DemoFigures): Promise<string> {
  const { loaded, migrateSeconds } = figures;
  const status = JSON.parse((await verb(env, ['status', '--json'], false)).stdout || '{}') as Status;
  const indices = status.elasticsearch?.value?.indices ?? [];
  const slot = status.source?.value?.slot;
  const lines = [
    '',
    '── Report',
    `backfill      ${formatCount(loaded.totalRows)} rows in ${formatDuration(migrateSeconds)}: ${formatCount(loaded.totalRows / migrateSeconds)} rows/s, ${formatBytes(loaded.textBytes / migrateSeconds)}/s`,
    `live writer   ${formatCount(figures.transactions)} transactions meanwhile`,
    `lag           ${slot ? lagOf(slot) : 'unknown: there is no slot'}`,
    `documents     ${formatCount(indices.reduce((sum, { documents }) => sum + documents, 0))} in ${indices.length} indices`,
    ...indices.map(({ index, documents, bytes }) => `              ${formatCount(documents).padStart(8)}  ${formatBytes(bytes).padStart(9)}  ${index}`),
    `whole demo    ${formatDuration(figures.totalSeconds)}`,
    figures.equal ? 'equal' : 'NOT EQUAL',
  ];
  return lines.join('\n');
}

function lagOf({ lagBytes, lagSeconds }: Slot): string {
  return `${lagBytes === null ? 'unknown' : formatBytes(lagBytes)}, ${lagSeconds === null ? 'time unknown' : `${lagSeconds.toFixed(1)} s`}`;
}
