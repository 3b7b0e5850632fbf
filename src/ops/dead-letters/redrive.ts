import { setTimeout as sleep } from 'node:timers/promises';
import type { DeadLetterCause, TableName } from '../../core/contracts.ts';
import { isUuid, type RowKey } from '../../core/row-key.ts';
import type { DeadLetters, StoredLetter } from '../../pipeline/kafka/dead-letters.ts';
import type { Boundaries } from '../validate/expectations.ts';
import type { DocumentAddress } from '../validate/documents.ts';
import { decide, type Decision } from './decide.ts';
import { addressOf, type WriteOutcome } from './letter-writer.ts';

/** Letters looked at together. Their values are bounded by the slices in which they are read. */
const TOGETHER = 500;
/** Between batches, so that a large redrive leaves the cluster and the sinks room. */
const PAUSE_MS = 20;

export interface RedriveRequest {
  readonly cause: DeadLetterCause | null;
  readonly dryRun: boolean;
  /** Also letters of switched tenants. */
  readonly force: boolean;
}

export interface RedrivePorts {
  readonly letters: Pick<DeadLetters, 'letters' | 'tried'>;
  /** As recorded at the moment of the call. Asked for each batch: a redrive takes long, and a tenant may be switched meanwhile. */
  readonly boundaries: () => Promise<Boundaries>;
  /** The keys that PostgreSQL has under these ids now. */
  readonly places: (table: TableName, ids: readonly string[]) => Promise<ReadonlyMap<string, RowKey>>;
  /** Returns when all that was visible at the call is published and settled. Throws NOT_DRAINED. */
  readonly drained: () => Promise<void>;
  /** Those that are still the last of their key in the log. */
  readonly lastOfTheirKeys: (letters: readonly StoredLetter[]) => Promise<ReadonlySet<string>>;
  readonly write: (letters: readonly StoredLetter[]) => Promise<ReadonlyMap<string, WriteOutcome>>;
  /** Versions of documents, in the order asked for; null for one that is not there. */
  readonly versions: (addresses: readonly DocumentAddress[]) => Promise<readonly (bigint | null)[]>;
  /** Sends rows again through Kafka behind a fresh barrier; returns the ids of those that Kafka cannot take. */
  readonly resend: (table: TableName, ids: readonly string[]) => Promise<ReadonlySet<string>>;
  readonly signal: AbortSignal;
  readonly onProgress?: (report: RedriveReport) => void;
}

/** What became of the open letters (of a cause). All but the last three are settled. */
export interface RedriveReport {
  readonly seen: number;
  /** Written to Elasticsearch. */
  readonly applied: number;
  /** The document there is newer. */
  readonly stale: number;
  /** Read again from PostgreSQL; the sinks write it. */
  readonly reread: number;
  /** The row was deleted since. */
  readonly gone: number;
  /** The row has another tenant or created_at now, with a record of its own. */
  readonly moved: number;
  /** Retention dropped its month. */
  readonly expired: number;
  readonly failed: number;
  readonly switched: number;
  /** Nothing tells which row it was: for a person (`dlq show`, `dlq accept`). */
  readonly unreadable: number;
}

type Counted = Exclude<keyof RedriveReport, 'seen'>;
const NOTHING: RedriveReport = { seen: 0, applied: 0, stale: 0, reread: 0, gone: 0, moved: 0, expired: 0, failed: 0, switched: 0, unreadable: 0 };

/**
 * Sends open letters again, in their order, batch by batch; what is recorded after each batch is not done again by the
 * next redrive. Letters that are parked meanwhile are not met. Throws what its ports throw; batches before stay recorded.
 */
export async function redrive(request: RedriveRequest, ports: RedrivePorts): Promise<RedriveReport> {
  let report = NOTHING;
  for await (const slice of ports.letters.letters()) {
    const open = slice.filter(({ state, cause }) => state === 'open' && (request.cause === null || request.cause === cause));
    for (let at = 0; at < open.length; at += TOGETHER) {
      ports.signal.throwIfAborted();
      const batch = open.slice(at, at + TOGETHER);
      const results = await new Batch(request, ports).run(batch);
      report = added(report, results);
      if (!request.dryRun) {
        await ports.letters.tried(outcomesOf(results));
        await sleep(PAUSE_MS);
      }
      ports.onProgress?.(report);
    }
  }
  return report;
}

/** One batch on its way; each letter ends in `results`. */
class Batch {
  readonly #request: RedriveRequest;
  readonly #ports: RedrivePorts;
  readonly #results = new Map<string, Counted>();

  constructor(request: RedriveRequest, ports: RedrivePorts) {
    this.#request = request;
    this.#ports = ports;
  }

  async run(letters: readonly StoredLetter[]): Promise<ReadonlyMap<string, Counted>> {
    const places = await this.#places(letters);
    // behind the places: a row that is gone by then may be so by a TRUNCATE that was recorded since
    let known = await this.#ports.boundaries();
    let plans = this.#plan(letters, places, known);
    // Gone by a DELETE, or by a TRUNCATE that is to be ignored and that the reader has not come to.
    if (!this.#request.dryRun && plans.some(({ letter, plan }) => letter.value !== null && plan.kind === 'settled' && plan.why === 'gone')) {
      await this.#ports.drained();
      known = await this.#ports.boundaries();
      plans = this.#plan(letters, places, known);
    }
    for (const { letter, plan } of plans) if (plan.kind === 'settled' || plan.kind === 'left') this.#results.set(letter.id, countOf(plan));
    const of = (kind: Decision['kind']): StoredLetter[] => plans.filter(({ plan }) => plan.kind === kind).map(({ letter }) => letter);

    const conditional = of('write-if-last');
    const last = conditional.length > 0 ? await this.#ports.lastOfTheirKeys(conditional) : new Set<string>();
    for (const { id } of conditional) if (!last.has(id)) this.#results.set(id, 'stale');
    const ordered = letters.filter(({ id }) => !this.#results.has(id));
    const again = new Set(of('reread').map(({ id }) => id));
    const written = ordered.filter(({ id }) => !again.has(id));
    if (this.#request.dryRun) {
      for (const { id } of ordered) this.#results.set(id, again.has(id) ? 'reread' : 'applied');
      return this.#results;
    }
    const ties = await this.#write(written, places, known.prefix);
    await this.#reread([...of('reread'), ...ties]);
    return this.#results;
  }

  #plan(letters: readonly StoredLetter[], places: ReadonlyMap<string, RowKey>, known: Boundaries): { letter: StoredLetter; plan: Decision }[] {
    return letters.map((letter) => ({ letter, plan: decide(letter, letter.key ? places.get(placeKey(letter)) : undefined, known, this.#request.force) }));
  }

  async #places(letters: readonly StoredLetter[]): Promise<Map<string, RowKey>> {
    const places = new Map<string, RowKey>();
    for (const [table, some] of Map.groupBy(letters, (letter) => letter.table)) {
      const ids = [...new Set(some.flatMap(({ key }) => (key && isUuid(key.id) ? [key.id] : [])))];
      for (const [id, key] of await this.#ports.places(table, ids)) places.set(`${table}/${id}`, key);
    }
    return places;
  }

  /** Returns those of which only PostgreSQL can say what the document should be. */
  async #write(letters: readonly StoredLetter[], places: ReadonlyMap<string, RowKey>, prefix: string): Promise<StoredLetter[]> {
    if (letters.length === 0) return [];
    const outcomes = await this.#ports.write(letters);
    for (const { id } of letters) {
      const kind = outcomes.get(id)?.kind ?? 'failed';
      this.#results.set(id, kind === 'superseded' ? 'stale' : kind);
    }
    const stale = letters.flatMap((letter) => {
      const found = addressOf(letter, prefix);
      return outcomes.get(letter.id)?.kind === 'stale' && letter.value !== null && typeof found !== 'string' ? [found] : [];
    });
    if (stale.length === 0) return [];
    const versions = await this.#ports.versions(stale.map(({ index, id }) => ({ index, id, field: 'id' })));
    // The document's version is this one's: another change of the same transaction, before or after. No document: it was
    // deleted in or after this transaction, and the row is there, so that it may have come after the delete.
    return stale.filter(({ letter, version }, i) => places.has(placeKey(letter)) && (versions[i] ?? -1n) <= version).map(({ letter }) => letter);
  }

  async #reread(letters: readonly StoredLetter[]): Promise<void> {
    for (const [table, some] of Map.groupBy(letters, (letter) => letter.table)) {
      const tooLarge = await this.#ports.resend(table, [...new Set(some.map(({ key }) => key!.id))]);
      for (const { id, key } of some) this.#results.set(id, tooLarge.has(key!.id) ? 'failed' : 'reread');
    }
  }
}

const placeKey = ({ table, key }: StoredLetter): string => `${table}/${key?.id ?? ''}`;

function countOf(plan: Extract<Decision, { kind: 'settled' | 'left' }>): Counted {
  return plan.why === 'no-key' ? 'unreadable' : plan.why;
}

function added(report: RedriveReport, results: ReadonlyMap<string, Counted>): RedriveReport {
  const sum: Record<keyof RedriveReport, number> = { ...report, seen: report.seen + results.size };
  for (const result of results.values()) sum[result]++;
  return sum;
}

/** What is recorded: a letter that was not tried (of a switched tenant) is not counted as an attempt. */
function outcomesOf(results: ReadonlyMap<string, Counted>): Map<string, 'redriven' | 'failed'> {
  const outcomes = new Map<string, 'redriven' | 'failed'>();
  for (const [id, result] of results) {
    if (result === 'failed') outcomes.set(id, 'failed');
    else if (result !== 'switched' && result !== 'unreadable') outcomes.set(id, 'redriven');
  }
  return outcomes;
}
