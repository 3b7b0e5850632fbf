import type { Client } from '@elastic/elasticsearch';
import { CONNECTORS } from '../../connector/registry.ts';
import { TABLES, type DeadLetterCause, type Row, type TableName } from '../../core/contracts.ts';
import type { RowVersion } from '../../core/row-version.ts';
import type { StoredLetter } from '../../pipeline/kafka/dead-letters.ts';
import { BulkWriter, type Sendable, type Settled } from '../../pipeline/sink/bulk-writer.ts';
import { ByteWriter } from '../../pipeline/sink/byte-writer.ts';
import { coalesce } from '../../pipeline/sink/coalesce.ts';
import { DocumentWriter } from '../../pipeline/sink/document.ts';
import { indexOf } from '../../pipeline/sink/index-name.ts';
import { KnownIndices } from '../../pipeline/sink/known-indices.ts';
import { DEFAULT_PACE, Patience, type Trouble } from '../../pipeline/sink/patience.ts';
import { probeWrite } from '../../pipeline/sink/state-mirror.ts';

export interface LetterWriterOptions {
  readonly client: Client;
  readonly prefix: string;
  /** Throws a RangeError when the bytes are no row. */
  readonly row: (table: TableName, value: Buffer) => Row | Promise<Row>;
  readonly searchTextBytes: number;
  readonly maxBulkBytes: number;
  readonly signal: AbortSignal;
  readonly onTrouble: (trouble: Trouble) => void;
  readonly onRecovered: () => void;
}

/** `superseded`: a newer letter of the same document was in the batch. */
export type WriteOutcome = { readonly kind: 'applied' | 'stale' | 'superseded' } | { readonly kind: 'failed'; readonly cause: DeadLetterCause; readonly detail: string };

/** A letter whose document is known. */
export interface Addressed {
  readonly letter: StoredLetter;
  readonly index: string;
  readonly id: string;
  readonly version: RowVersion;
}

interface Written {
  readonly target: Addressed;
  readonly bytes: Buffer;
  readonly distrusted: () => Buffer | undefined;
}

/**
 * Writes letters with their own versions, strictly: unlike the sink's `external_gte`, a tie is refused too. All changes
 * of one transaction share a version; the letter of its first must not undo its last, which was applied long ago.
 */
export class LetterWriter {
  readonly #options: LetterWriterOptions;
  readonly #bulks: BulkWriter;
  readonly #indices: KnownIndices;
  readonly #documents: ReadonlyMap<TableName, DocumentWriter>;

  constructor(options: LetterWriterOptions) {
    const { client, prefix, maxBulkBytes, searchTextBytes } = options;
    this.#options = options;
    this.#indices = new KnownIndices(client);
    this.#bulks = new BulkWriter({ client, maxBulkBytes, probe: () => probeWrite(client, prefix), sighted: (index) => this.#indices.sighted(index) });
    this.#documents = new Map(TABLES.map((table) => [table, new DocumentWriter(CONNECTORS[table], { searchTextBytes })]));
  }

  /**
   * The outcome of each letter, by its id; waits for an Elasticsearch that is away. Throws ES_AUTH, ES_RIGHTS, and
   * Interrupted at the signal: what was written by then may be written again, which changes nothing.
   */
  async write(letters: readonly StoredLetter[]): Promise<Map<string, WriteOutcome>> {
    const { signal, onTrouble, onRecovered } = this.#options;
    const outcomes = new Map<string, WriteOutcome>();
    const patience = new Patience({ heartbeat: async () => {}, signal, onTrouble, onRecovered, pace: DEFAULT_PACE });
    const { winners, losers } = coalesce(letters.flatMap((letter) => this.#address(letter, outcomes)));
    for (const { letter } of losers) outcomes.set(letter.id, { kind: 'superseded' });
    const missing = await this.#indices.missing(winners.filter(({ letter }) => letter.value === null).map(({ index }) => index), patience);
    let items: Sendable[] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      await this.#bulks.write(items, Buffer.concat(items.map((item) => item.bytes())), patience);
      items = [];
      bytes = 0;
    };
    for (const target of winners) {
      const { letter, index } = target;
      const settle = (settled: Settled): void => void outcomes.set(letter.id, settled.kind === 'dead-letter' ? { kind: 'failed', cause: settled.cause, detail: settled.detail } : settled);
      // a delete must not create its index
      if (letter.value === null && missing.has(index)) settle({ kind: 'applied' });
      else {
        const written = await this.#item(target);
        if (!written) settle({ kind: 'dead-letter', cause: 'undecodable', detail: 'the value is no row of this program' });
        else {
          items.push(sendable(written, settle));
          bytes += written.bytes.length;
        }
      }
      if (bytes >= this.#bulks.bulkBytes) await flush();
    }
    await flush();
    return outcomes;
  }

  #address(letter: StoredLetter, outcomes: Map<string, WriteOutcome>): Addressed[] {
    const found = addressOf(letter, this.#options.prefix);
    if (typeof found !== 'string') return [found];
    outcomes.set(letter.id, { kind: 'failed', cause: found, detail: 'there is no index for it' });
    return [];
  }

  async #item(target: Addressed): Promise<Written | undefined> {
    const { letter } = target;
    if (letter.value === null) return { target, bytes: Buffer.from(action('delete', target)), distrusted: () => undefined };
    try {
      const row = await this.#options.row(letter.table, letter.value);
      const first = this.#document(target, row, false);
      return { target, bytes: first.bytes, distrusted: () => (first.jsonColumns === first.invalidJson ? undefined : this.#document(target, row, true).bytes) };
    } catch (error) {
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }

  #document(target: Addressed, row: Row, distrustJson: boolean): { bytes: Buffer; jsonColumns: number; invalidJson: number } {
    const writer = new ByteWriter(1_024 + 2 * (target.letter.value?.length ?? 0));
    writer.ascii(action('index', target));
    const counts = this.#documents.get(target.letter.table)!.write(writer, row, distrustJson);
    writer.ascii('\n');
    return { ...counts, bytes: writer.bytes.subarray(0, writer.length) };
  }
}

/** Where a letter's document is, or why it has none. */
export function addressOf(letter: StoredLetter, prefix: string): Addressed | DeadLetterCause {
  const { key, version, table } = letter;
  if (!key) return 'bad-key';
  if (version === null) return 'undecodable';
  const index = indexOf(prefix, CONNECTORS[table], key);
  return typeof index === 'string' ? index : { letter, index: index.name, id: key.id, version };
}

/** Index and id are made of checked parts, the version is digits: nothing in them can end the line. */
function action(verb: 'index' | 'delete', { index, id, version }: Addressed): string {
  return `{"${verb}":{"_index":"${index}","_id":"${id}","version":${version},"version_type":"external"}}\n`;
}

function sendable({ target, bytes, distrusted }: Written, settle: (settled: Settled) => void): Sendable {
  return {
    index: target.index,
    deletes: target.letter.value === null,
    bytes: () => bytes,
    distrusted: () => {
      const again = distrusted();
      return again && sendable({ target, bytes: again, distrusted: () => undefined }, settle);
    },
    settle,
  };
}
