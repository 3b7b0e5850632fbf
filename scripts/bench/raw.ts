import { statSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../local/run.ts';
import type { Installation } from './installation.ts';
import type { Setting } from './options.ts';
import type { Usage, Usages } from './processes.ts';

export interface RawResult extends Setting {
  readonly rows: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly rowsPerSecond: number;
  readonly usages: Usages;
}

/** What the bench compares with: the documents of `file` into the empty indices of `prepared`, whose templates are the product's. */
export async function rawBulk(prepared: Installation, file: string, setting: Setting): Promise<RawResult> {
  await prepared.dropDocuments();
  const meter = prepared.meter();
  const child = await run(process.execPath, [join(import.meta.dirname, 'raw-child.ts'), file, prepared.ground.elasticsearchUrl, String(setting.megabytes * 1024 * 1024), String(setting.connections)]);
  const usages = meter.stop();
  if (child.status !== 0) throw new Error(`raw _bulk failed: ${child.stderr.slice(-2000)}`);
  const { rows, bytes, seconds, ...own } = JSON.parse(child.stdout) as Usage & { rows: number; bytes: number; seconds: number };
  if (bytes !== statSync(file).size) throw new Error('raw _bulk did not send the whole file');
  const documents = await prepared.documents();
  if (documents !== rows) throw new Error(`raw _bulk sent ${rows} documents and ${documents} are there`);
  return { ...setting, rows, bytes, seconds, rowsPerSecond: rows / seconds, usages: { ...usages, 'raw _bulk': own } };
}

/** Each setting once, in the order given. */
export async function sweep(prepared: Installation, file: string, settings: readonly Setting[]): Promise<RawResult[]> {
  const results: RawResult[] = [];
  for (const setting of settings) results.push(await rawBulk(prepared, file, setting));
  return results;
}

export function bestOf(results: readonly RawResult[]): RawResult {
  return results.reduce((best, one) => (one.rowsPerSecond > best.rowsPerSecond ? one : best));
}
