import type { Row, TableName } from '../../core/contracts.ts';
import { DifyEsError, type ErrorCode } from '../../core/errors.ts';
import { isUuid } from '../../core/row-key.ts';
import type { RowVersion } from '../../core/row-version.ts';
import { expectationOfRow, type Boundaries } from './expectations.ts';
import type { DocumentAddress, Documents } from './documents.ts';
import type { FoundDocument } from './raw-documents.ts';
import type { OpenTable, Source } from './source.ts';
import type { Apart, Difference } from './tally.ts';
import { judge, type SeenKey, type Suspect } from './verdict.ts';

/** Looks at a row that keeps changing so often before it is counted as in flight. */
const ROUNDS = 5;
/** Suspects that are looked at together, and what their documents may weigh (stored bytes are compressed). */
const TOGETHER = 500;
const TOGETHER_BYTES = 32 << 20;
const EXPANSION = 4;

/** The path does not get on, for a reason that has its own cure. What is seen is worth telling all the same. */
const STUCK: ReadonlySet<ErrorCode> = new Set(['NOT_DRAINED', 'PG_SLOT_MISSING', 'PG_SLOT_LOST']);

type Before = ReadonlyMap<string, SeenKey & { readonly storedBytes: number }>;

interface Round {
  readonly before: Before;
  readonly known: Boundaries;
  readonly drainVersion: RowVersion | null;
}

export interface RecheckPorts {
  readonly source: Source;
  readonly documents: Documents;
  /** What differs on purpose, as it is recorded at the moment of the call. */
  readonly boundaries: () => Promise<Boundaries>;
  readonly tables: ReadonlyMap<TableName, OpenTable>;
  /** The document a row should have; valid until the next call. */
  readonly expectedText: (row: Row) => Buffer;
  /**
   * Waits until everything that was committed when it was called is in Elasticsearch; returns the version of a commit
   * at that moment. Throws NOT_DRAINED, PG_SLOT_MISSING or PG_SLOT_LOST where that does not come about.
   */
  readonly drain: () => Promise<RowVersion>;
}

export interface Rechecked {
  readonly differences: readonly Difference[];
  readonly apart: readonly Apart[];
  readonly inFlight: number;
}

/**
 * Looks at suspects again, with the path drained in between: row versions, drain point, documents, rows. What then still
 * differs, while its row did not change, is a difference; what goes on changing is in flight, never equal.
 */
export class Rechecker {
  /** Set once the path did not drain: from then on differences may be rows in flight, and nothing is deleted. */
  notDrained: DifyEsError | null = null;
  readonly #ports: RecheckPorts;

  constructor(ports: RecheckPorts) {
    this.#ports = ports;
  }

  async recheck(suspects: readonly Suspect[]): Promise<Rechecked> {
    const differences: Difference[] = [];
    const apart: Apart[] = [];
    let pending = suspects;
    for (let round = 1; pending.length > 0 && round <= ROUNDS; round++) {
      const moving: Suspect[] = [];
      const before = await this.#keys(pending);
      const drainVersion = await this.#drain();
      // Behind the keys: a clean-up announces itself before its first delete, so a row that is gone by one is known to be
      // archived. Behind the drain point: an ignored TRUNCATE is recorded when the reader comes to it, before the slot is
      // confirmed beyond it. Those of earlier would have the document, the only copy, deleted as surplus.
      const known = await this.#ports.boundaries();
      for (const some of batches(pending, before)) {
        for (const [suspect, verdict] of await this.#look(some, { before, known, drainVersion })) {
          if (verdict.kind === 'difference') differences.push(verdict.difference);
          else if (verdict.kind === 'apart') apart.push(verdict.why);
          else if (verdict.kind === 'moving') moving.push(suspect);
        }
      }
      pending = moving;
    }
    return { differences, apart, inFlight: pending.length };
  }

  async #drain(): Promise<RowVersion | null> {
    if (this.notDrained) return null;
    try {
      return await this.#ports.drain();
    } catch (error) {
      if (!(error instanceof DifyEsError) || !STUCK.has(error.code)) throw error;
      this.notDrained = error;
      return null;
    }
  }

  async #keys(suspects: readonly Suspect[]): Promise<Before> {
    const found = new Map<string, SeenKey & { readonly storedBytes: number }>();
    for (const [table, ids] of idsByTable(suspects)) {
      for (const [id, seen] of await this.#ports.source.keysOf(this.#ports.tables.get(table)!, ids)) found.set(`${table}/${id}`, seen);
    }
    return found;
  }

  async #look(suspects: readonly Suspect[], { before, known, drainVersion }: Round): Promise<[Suspect, ReturnType<typeof judge>][]> {
    const { source, tables, expectedText } = this.#ports;
    const documents = await this.#documents(suspects, before, known);
    const verdicts: [Suspect, ReturnType<typeof judge>][] = [];
    const bySubject = Map.groupBy(suspects, ({ table, id }) => `${table}/${id}`);
    const judgeAll = (subject: string, after: Parameters<typeof judge>[1]['after']): void => {
      for (const suspect of bySubject.get(subject) ?? []) {
        const seen = before.get(subject) ?? null;
        const expected = seen && expectedIndex(suspect.table, seen, known);
        const at = (index: string | null): FoundDocument | null => (index === null ? null : (documents.get(`${index}/${suspect.id}`) ?? null));
        verdicts.push([suspect, judge(suspect, { before: seen, after, expectedDocument: at(expected), foundDocument: at(suspect.foundIn), drainVersion }, expectedText, known)]);
      }
      bySubject.delete(subject);
    };
    for (const [table, ids] of idsByTable(suspects)) {
      for await (const rows of source.rowsOf(tables.get(table)!, ids)) for (const row of rows) judgeAll(`${table}/${row.key.id}`, row);
    }
    for (const subject of [...bySubject.keys()]) judgeAll(subject, null);
    return verdicts;
  }

  async #documents(suspects: readonly Suspect[], before: Before, known: Boundaries): Promise<Map<string, FoundDocument>> {
    const wanted = new Map<string, DocumentAddress>();
    for (const { table, id, foundIn } of suspects) {
      const seen = before.get(`${table}/${id}`);
      const expected = seen ? expectedIndex(table, seen, known) : null;
      if (foundIn !== null) wanted.set(`${foundIn}/${id}`, { index: foundIn, id, field: 'created_at' });
      if (expected !== null) wanted.set(`${expected}/${id}`, { index: expected, id });
    }
    const found = new Map<string, FoundDocument>();
    for (const document of await this.#ports.documents.mget([...wanted.values()])) if (document) found.set(`${document.index}/${document.id}`, document);
    return found;
  }
}

function* batches(suspects: readonly Suspect[], before: Before): Generator<Suspect[]> {
  let batch: Suspect[] = [];
  let bytes = 0;
  for (const suspect of suspects) {
    const weight = EXPANSION * (before.get(`${suspect.table}/${suspect.id}`)?.storedBytes ?? 0);
    if (batch.length > 0 && (batch.length === TOGETHER || bytes + weight > TOGETHER_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(suspect);
    bytes += weight;
  }
  if (batch.length > 0) yield batch;
}

function expectedIndex(table: TableName, seen: SeenKey, known: Boundaries): string | null {
  const expected = expectationOfRow(table, seen.key, known);
  return expected.kind === 'document' ? expected.index : null;
}

/** Ids that a row may have. A document that somebody else put into one of our indices has any, and PostgreSQL refuses to look for it. */
function idsByTable(suspects: readonly Suspect[]): Map<TableName, string[]> {
  const found = new Map<TableName, Set<string>>();
  for (const { table, id } of suspects) if (isUuid(id)) found.set(table, (found.get(table) ?? new Set()).add(id));
  return new Map([...found].map(([table, ids]) => [table, [...ids]]));
}
