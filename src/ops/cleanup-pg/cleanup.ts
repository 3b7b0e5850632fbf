import { setTimeout as sleep } from 'node:timers/promises';
import type { TableName } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { slices, type OpenTable, type Source } from '../validate/source.ts';
import { CHILDREN_FIRST, nextCandidates, withChildren, type Candidate, type ChosenRow, type Scope } from './candidates.ts';
import { heldInElasticsearch, type ComparePorts } from './compare.ts';
import type { Deleter } from './deleter.ts';
import { emptyCounts, type TableCounts } from './report.ts';

/** Rows chosen before one drain point: ids and xmins of that many are in memory. */
const ROUND = 20_000;
const LOOKS_AT_ALTERED_TABLE = 5;

export interface CleanupPorts extends ComparePorts {
  readonly source: Source;
  readonly schema: string;
  /** Null: nothing is deleted, the counts say what would be. */
  readonly deletion: { readonly deleter: Deleter; readonly runId: string } | null;
  /** Returns when all that is visible at the call is settled in Elasticsearch. */
  readonly drain: () => Promise<unknown>;
  /** Those of the ids that have a dead letter which no redrive has settled. */
  readonly deadLettered: (table: TableName, ids: ReadonlySet<string>) => Promise<ReadonlySet<string>>;
  readonly signal: AbortSignal;
  readonly onProgress?: (counts: TableCounts) => void;
}

export interface CleanupPace {
  /** Rows of one transaction. */
  readonly batchSize: number;
  readonly pauseMs: number;
}

/**
 * Deletes from PostgreSQL the rows of a tenant before a date that Elasticsearch holds with equal content.
 *
 * A row is chosen with its xmin; then comes the drain point, so that everything the log had to say about that version
 * is settled; then row and document are compared; then the row is deleted if it still has that xmin. Compared before the
 * drain point, a record that was still on its way could be refused afterwards, or overwrite the document that was found
 * equal. Between the comparison and the delete only a change of the row itself could change the document, and that has
 * another xmin.
 */
export async function cleanUp(ports: CleanupPorts, scope: Scope, pace: CleanupPace): Promise<TableCounts[]> {
  const existing = new Set<TableName>();
  for (const table of CHILDREN_FIRST) if (await ports.source.open(table)) existing.add(table);
  const all: TableCounts[] = [];
  for (const table of CHILDREN_FIRST) {
    if (!existing.has(table)) continue;
    const counts = emptyCounts(table);
    all.push(counts);
    await new TableCleanup(ports, scope, pace, existing, counts).run(table);
  }
  return all;
}

class TableCleanup {
  readonly #ports: CleanupPorts;
  readonly #scope: Scope;
  readonly #pace: CleanupPace;
  readonly #existing: ReadonlySet<TableName>;
  readonly #counts: TableCounts;

  constructor(ports: CleanupPorts, scope: Scope, pace: CleanupPace, existing: ReadonlySet<TableName>, counts: TableCounts) {
    this.#ports = ports;
    this.#scope = scope;
    this.#pace = pace;
    this.#existing = existing;
    this.#counts = counts;
  }

  async run(name: TableName): Promise<void> {
    const { source, schema, drain, deadLettered, onProgress } = this.#ports;
    for (let after: string | null = null; ; ) {
      const table = await this.#open(name);
      const chosen: ChosenRow[] = await nextCandidates(source, schema, table.source, this.#scope, after, ROUND);
      if (chosen.length === 0) return;
      after = chosen.at(-1)!.id;
      await drain();
      crashPoint('cleanup.drained');
      const letters = await deadLettered(name, new Set(chosen.map(({ id }) => id)));
      const parents = await this.#parents(table, chosen);
      let current: OpenTable = table;
      for (const batch of slices(chosen, this.#pace.batchSize)) {
        if (this.#ports.signal.aborted) throw new DifyEsError('STOPPED', 'stopped between two batches; what was deleted is deleted');
        this.#counts.looked += batch.length;
        const worth = batch.filter(({ id, unfinished }) => {
          const why = letters.has(id) ? 'dead-lettered' : unfinished ? 'unfinished' : parents.has(id) ? 'has-children' : null;
          if (why) this.#counts.stayed[why]++;
          return why === null;
        });
        current = await this.#batch(current, worth);
        onProgress?.(this.#counts);
        if (this.#ports.deletion && this.#pace.pauseMs > 0) await sleep(this.#pace.pauseMs, undefined, { signal: this.#ports.signal }).catch(() => undefined);
      }
    }
  }

  /** With --dry-run the children are still there, those included that a clean-up would have deleted before. */
  async #parents({ source }: OpenTable, chosen: readonly Candidate[]): Promise<ReadonlySet<string>> {
    if (!this.#ports.deletion) return new Set();
    return await withChildren(this.#ports.source, this.#ports.schema, source.table, this.#existing, source.idType, chosen.map(({ id }) => id));
  }

  async #batch(table: OpenTable, batch: readonly Candidate[]): Promise<OpenTable> {
    let current = table;
    for (let look = 0; look < LOOKS_AT_ALTERED_TABLE; look++) {
      const { equal, stayed } = await this.#compare(current, batch);
      crashPoint('cleanup.compared');
      const { deletion } = this.#ports;
      const gone = deletion ? await deletion.deleter.delete(current.source, equal, this.#scope, deletion.runId) : new Set(equal.map(({ id }) => id));
      if (gone === 'altered') {
        current = await this.#open(current.source.table);
        continue;
      }
      crashPoint('cleanup.deleted');
      for (const why of stayed) this.#counts.stayed[why]++;
      this.#counts.stayed.changed += equal.length - gone.size;
      this.#counts.deleted += gone.size;
      return current;
    }
    throw new DifyEsError('TABLE_UNSUITABLE', `${table.source.name} is being altered without end`);
  }

  async #compare({ source: table, size }: OpenTable, batch: readonly Candidate[]): Promise<{ equal: Candidate[]; stayed: (keyof TableCounts['stayed'])[] }> {
    const chosen = new Map(batch.map(({ id, xmin }) => [id, xmin]));
    const equal: Candidate[] = [];
    const stayed: (keyof TableCounts['stayed'])[] = [];
    for await (const rows of this.#ports.source.rowsOf({ source: table, size }, batch.map(({ id }) => id))) {
      const unchanged = rows.filter(({ key, xmin }) => chosen.get(key.id) === xmin);
      const held = await heldInElasticsearch(this.#ports, table.table, unchanged);
      unchanged.forEach(({ key, xmin }, i) => {
        const verdict = held[i]!;
        if (verdict === 'equal') equal.push({ id: key.id, xmin });
        else stayed.push(verdict);
      });
    }
    const seen = equal.length + stayed.length;
    for (let changed = seen; changed < batch.length; changed++) stayed.push('changed');
    return { equal, stayed };
  }

  async #open(name: TableName): Promise<OpenTable> {
    const table = await this.#ports.source.open(name);
    if (!table) throw new DifyEsError('TABLE_UNSUITABLE', `${name} is gone`);
    return table;
  }
}
