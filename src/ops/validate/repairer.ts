import { CONNECTORS } from '../../connector/registry.ts';
import type { TableName } from '../../core/contracts.ts';
import { monthOf, type RowKey, isUuid } from '../../core/row-key.ts';
import { parseIndexName } from '../../pipeline/sink/index-name.ts';
import type { Documents } from './documents.ts';
import { slices } from './source.ts';
import type { Difference } from './tally.ts';
import { createdAtOf } from './verdict.ts';

/**
 * The way of a repair into Kafka, through rule 3: behind a fresh barrier, read again before the transaction commits.
 * Both return when it has committed, and how many were published.
 */
export interface RepairPort {
  /** The rows of these ids as they are now; those that are gone by now are none. */
  publishRows(table: TableName, ids: readonly string[]): Promise<number>;
  /** Tombstones for documents of no row under that key; a row that has come back is published behind its tombstone. */
  publishTombstones(table: TableName, keys: readonly RowKey[]): Promise<number>;
  close(): Promise<void>;
}

export interface RepairReport {
  readonly rowsPublished: number;
  readonly tombstonesPublished: number;
  /** Looked at again afterwards and found equal. */
  readonly proven: number;
  /** Surplus documents that were not deleted: without --delete-extra, or because the path was not drained. */
  readonly leftAlone: number;
}

const TOGETHER = 1000;

/** Decides what of the confirmed differences is sent again, and counts it. Deletes nothing unless `deleteExtra`. */
export class Repairer {
  readonly #port: RepairPort;
  readonly #documents: Documents;
  readonly #settings: { readonly deleteExtra: boolean; readonly prefix: string };
  #rowsPublished = 0;
  #tombstonesPublished = 0;
  #proven = 0;
  #leftAlone = 0;

  constructor(port: RepairPort, documents: Documents, settings: { readonly deleteExtra: boolean; readonly prefix: string }) {
    this.#port = port;
    this.#documents = documents;
    this.#settings = settings;
  }

  /** Returns those that were acted upon, to be looked at again. `drained` false: a surplus document may be one in flight. */
  async mend(differences: readonly Difference[], drained: boolean): Promise<Difference[]> {
    const lacking = differences.filter((found) => found.class === 'missing' || found.class === 'stale' || (found.class === 'wrong-index' && found.missingThere));
    const surplus = differences.filter((found) => found.class === 'extra' || found.class === 'wrong-index');
    for (const [table, some] of Map.groupBy(lacking, (found) => found.table)) {
      for (const part of slices(some, TOGETHER)) this.#rowsPublished += await this.#port.publishRows(table, [...new Set(part.map(({ id }) => id))]);
    }
    const acted = new Set(lacking);
    if (this.#settings.deleteExtra && drained) {
      for (const [table, some] of Map.groupBy(surplus, (found) => found.table)) {
        for (const part of slices(some, TOGETHER)) for (const found of await this.#delete(table, part)) acted.add(found);
      }
    }
    this.#leftAlone += surplus.filter((found) => !acted.has(found) || !this.#settings.deleteExtra).length;
    return [...acted];
  }

  async #delete(table: TableName, surplus: readonly Difference[]): Promise<Difference[]> {
    const found = await this.#documents.mget(surplus.map(({ index, id }) => ({ index, id, field: 'created_at' })));
    const deleted: Difference[] = [];
    const keys: RowKey[] = [];
    surplus.forEach((difference, i) => {
      const document = found[i];
      const key = tombstoneKey(difference, document ? createdAtOf(document) : null, this.#settings.prefix);
      if (!key) return;
      deleted.push(difference);
      if (document) keys.push(key);
    });
    if (keys.length > 0) this.#tombstonesPublished += await this.#port.publishTombstones(table, keys);
    return deleted;
  }

  /** So many were found equal when they were looked at again. */
  proven(count: number): void {
    this.#proven += count;
  }

  async close(): Promise<void> {
    await this.#port.close();
  }

  report(): RepairReport {
    return { rowsPublished: this.#rowsPublished, tombstonesPublished: this.#tombstonesPublished, proven: this.#proven, leftAlone: this.#leftAlone };
  }
}

/**
 * The key under which a tombstone deletes this document: the row's own where the document tells it (compaction then
 * drops the row's old value too), else any of that index. Undefined for an id that is no uuid: no row ever had it.
 */
export function tombstoneKey(place: Pick<Difference, 'table' | 'index' | 'id'>, createdAt: string | null, prefix: string): RowKey | undefined {
  const where = parseIndexName(prefix, [CONNECTORS[place.table]], place.index);
  if (!where || !isUuid(place.id)) return undefined;
  const text = createdAt === null ? '' : postgresTime(createdAt);
  return { tenantId: where.tenantId, createdAt: monthOf(text) === where.month ? text : `${where.month.replace('.', '-')}-01 00:00:00`, id: place.id };
}

/** As PostgreSQL prints it: a blank for the T, no zeros at the end of the fraction. */
function postgresTime(iso: string): string {
  return iso.replace('T', ' ').replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '');
}
