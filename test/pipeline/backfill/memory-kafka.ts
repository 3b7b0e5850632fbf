import type { DeadLetter, Publisher, PublishTransaction, RowRecord } from '../../../src/core/contracts.ts';
import { Cells } from '../../../src/core/cells.ts';
import { valuesOf } from '../../support/cells.ts';
import { DifyEsError } from '../../../src/core/errors.ts';
import type { RowKey } from '../../../src/core/row-key.ts';
import type { ControlLog } from '../../../src/core/state.ts';

interface Entry {
  readonly record: RowRecord;
  state: 'open' | 'committed' | 'aborted';
}

/**
 * The contract of Publisher and ControlLog in memory, for faults that a broker cannot be told to make. Records take
 * their offsets when they are sent and become visible with their transaction; the first transaction of a role fences its former holder.
 */
export class MemoryKafka {
  readonly entries: Entry[] = [];
  readonly letters: DeadLetter[] = [];
  readonly control = new Map<string, unknown>();
  /** How often each role was taken over; the last one to do so may write. */
  readonly openings = new Map<string, number>();
  commits = 0;
  /** Aborted transactions that had records. */
  aborts = 0;
  /** Called before the records take their offsets: what other writers append now lies before them. */
  beforeSend: (records: readonly RowRecord[], writer: string) => Promise<void> | void = () => undefined;
  /** Called after the records took their offsets and before they are acknowledged: what a test does between the chunk and its re-read. */
  onSend: (records: readonly RowRecord[], writer: string) => Promise<void> | void = () => undefined;
  onCommit: (writer: string) => Promise<void> | void = () => undefined;
  readonly #listeners = new Set<(key: string) => void>();
  #changing: Promise<void> = Promise.resolve();

  openPublisher = async (writer: string): Promise<Publisher> => {
    let opening: number | undefined;
    return {
      begin: async () => {
        if (opening === undefined) this.openings.set(writer, (opening = (this.openings.get(writer) ?? 0) + 1));
        this.#assertNotFenced(writer, opening);
        return this.#transaction(writer, opening);
      },
      close: async () => undefined,
    };
  };

  /** What a stream would append: at once and visible. */
  append(record: RowRecord): void {
    this.entries.push({ record, state: 'committed' });
  }

  committed(): RowRecord[] {
    return this.entries.filter(({ state }) => state === 'committed').map(({ record }) => record);
  }

  /** What compaction keeps and a replay sees: the last record of each key, tombstones taken out. */
  compacted(): Map<string, RowRecord> {
    const last = new Map<string, RowRecord>();
    for (const record of this.committed()) last.set(keyText(record.key), record);
    for (const [key, record] of last) if (record.row === null) last.delete(key);
    return last;
  }

  controlLog(): ControlLog {
    return {
      get: <T>(key: string) => this.control.get(key) as T | undefined,
      entries: <T>(prefix: string) => [...this.control].filter(([key]) => key.startsWith(prefix)).sort() as [string, T][],
      put: async (key, value) => this.put(key, value),
      remove: async (key) => {
        this.control.delete(key);
        this.#tell(key);
      },
      change: async (decide) => {
        // As a broker does it, with time between: whoever comes meanwhile waits.
        const turn = this.#changing.then(() => {
          const { writes, result } = decide();
          for (const [key, value] of writes) this.put(key, value);
          return result;
        });
        this.#changing = turn.then(() => undefined, () => undefined);
        return turn;
      },
      onChange: (listener) => {
        this.#listeners.add(listener);
        return () => void this.#listeners.delete(listener);
      },
      refresh: async () => undefined,
      close: async () => undefined,
    };
  }

  put(key: string, value: unknown): void {
    if (value === null) this.control.delete(key);
    else this.control.set(key, JSON.parse(JSON.stringify(value)));
    this.#tell(key);
  }

  #tell(key: string): void {
    for (const listener of this.#listeners) listener(key);
  }

  #transaction(writer: string, opening: number): PublishTransaction {
    const mine: Entry[] = [];
    const letters: DeadLetter[] = [];
    const controls = new Map<string, unknown>();
    return {
      send: async (records) => {
        await this.beforeSend(records, writer);
        this.#assertNotFenced(writer, opening);
        for (const record of records) {
          const entry: Entry = { record: written(record), state: 'open' };
          mine.push(entry);
          this.entries.push(entry);
        }
        await this.onSend(records, writer);
      },
      park: async (more) => void letters.push(...more),
      putControl: async (key, value) => void controls.set(key, value),
      commit: async () => {
        await this.onCommit(writer);
        this.#assertNotFenced(writer, opening);
        for (const entry of mine) entry.state = 'committed';
        for (const [key, value] of controls) this.put(key, value);
        this.letters.push(...letters);
        this.commits++;
      },
      abort: async () => {
        for (const entry of mine) entry.state = 'aborted';
        if (mine.length > 0) this.aborts++;
      },
    };
  }

  #assertNotFenced(writer: string, opening: number): void {
    if (this.openings.get(writer) !== opening) throw new DifyEsError('KAFKA_FENCED', `role ${writer} was taken over`);
  }
}

/** As it lies in the log: whoever sent it may use the memory of its row again. */
function written(record: RowRecord): RowRecord {
  return record.row === null ? record : { ...record, row: { shape: record.row.shape, cells: Cells.of(valuesOf(record.row.cells)) } };
}

export const keyText = (key: RowKey): string => `${key.tenantId}/${key.createdAt}/${key.id}`;
