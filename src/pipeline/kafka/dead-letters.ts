import type { DeadLetter, DeadLetterCause, TableName } from '../../core/contracts.ts';
import { type AcceptedRecord, type ControlLog, type LetterRunsRecord, stateKeys } from '../../core/state.ts';
import { createIdempotentWriter } from './idempotent-writer.ts';
import type { KafkaClient } from './kafkajs.ts';
import { letterRecord, type ParkedLetter, parseLetter } from './letter-format.ts';
import { type RunState, stateAt, stretchOf, withStates } from './letter-runs.ts';
import { createPartitionReader, readRange } from './partition-reader.ts';
import type { TopicNames } from './topics.ts';

/** A letter as it lies on the topic. `id` is `partition:offset`, which never changes. */
export interface StoredLetter extends ParkedLetter {
  readonly id: string;
  readonly state: 'open' | 'accepted' | 'redriven';
  /** Redrives that failed. */
  readonly attempts: number;
}

export interface LetterGroup {
  readonly cause: DeadLetterCause;
  readonly table: TableName;
  readonly open: number;
  readonly accepted: number;
  readonly redriven: number;
  /** When the oldest open one was parked, ISO 8601; null when none is open. */
  readonly oldestOpen: string | null;
}

export interface DeadLetters {
  /** In the order they were parked, in slices of a few MB: never all at once. */
  letters(): AsyncGenerator<readonly StoredLetter[]>;
  /** Undefined when there is no such letter. */
  get(id: string): Promise<StoredLetter | undefined>;
  groups(): Promise<LetterGroup[]>;
  /**
   * Records that the letter's row stays out. The letter stays where it is; those of the same row and cause count as
   * accepted too, also when a replay or a backfill parks the row once more.
   */
  accept(letter: StoredLetter, why: string): Promise<void>;
  /** Records the outcome of a redrive, many letters in one record: settled, or failed once more and still open. */
  tried(outcomes: ReadonlyMap<string, 'redriven' | 'failed'>): Promise<void>;
  close(): Promise<void>;
}

const PARTITION = 0;

/** The reading side. Throws KAFKA_TOPIC_MISSING, KAFKA_UNREACHABLE. */
export async function openDeadLetters(kafka: KafkaClient, names: TopicNames, control: ControlLog): Promise<DeadLetters> {
  const reader = createPartitionReader(kafka);
  await reader.connect([names.dlq]);

  const range = async (): Promise<{ from: bigint; to: bigint }> => {
    const [beginning, end] = await Promise.all([reader.offsets(names.dlq, 'beginning'), reader.offsets(names.dlq, 'end')]);
    return { from: beginning.get(PARTITION) ?? 0n, to: end.get(PARTITION) ?? 0n };
  };

  async function* slices(from: bigint, to: bigint): AsyncGenerator<readonly StoredLetter[]> {
    const accepted = new Set(acceptedOf(control).flatMap(({ row, cause }) => (row === null ? [] : `${cause}/${row}`)));
    for await (const messages of readRange(reader, names.dlq, PARTITION, from, to)) {
      yield messages.flatMap((message) => {
        const letter = parseLetter(message.headers, message.value);
        const id = `${PARTITION}:${message.offset}`;
        return letter ? [{ ...letter, id, ...stateOf(control, accepted, letter, id) }] : [];
      });
    }
  }

  async function* letters(): AsyncGenerator<readonly StoredLetter[]> {
    const { from, to } = await range();
    yield* slices(from, to);
  }

  return {
    letters,
    async get(id) {
      const match = /^0:(\d{1,18})$/.exec(id);
      const { from, to } = await range();
      const offset = match ? BigInt(match[1]!) : -1n;
      if (offset < from || offset >= to) return undefined;
      for await (const slice of slices(offset, offset + 1n)) return slice.find((letter) => letter.id === id);
      return undefined;
    },
    async groups() {
      const groups = new Map<string, LetterGroup>();
      for await (const slice of letters()) for (const letter of slice) count(groups, letter);
      return [...groups.values()].sort((a, b) => b.open - a.open || (a.cause < b.cause ? -1 : 1));
    },
    accept: (letter, why) => control.put(stateKeys.letter(letter.id), { row: rowOf(letter), cause: letter.cause, why, at: new Date().toISOString() } satisfies AcceptedRecord),
    async tried(outcomes) {
      for (const [stretch, ids] of Map.groupBy(outcomes.keys(), (id) => stretchOf(offsetOf(id)))) {
        const key = stateKeys.letterRuns(stretch);
        const runs = control.get<LetterRunsRecord>(key)?.runs ?? [];
        const states = new Map(ids.map((id): [number, RunState] => [offsetOf(id), outcomes.get(id) === 'redriven' ? 'redriven' : failures(stateAt(runs, offsetOf(id))) + 1]));
        await control.put(key, { runs: withStates(runs, states) } satisfies LetterRunsRecord);
      }
    },
    close: () => reader.close(),
  };
}

const offsetOf = (id: string): number => Number(id.slice(id.indexOf(':') + 1));
const failures = (state: RunState | undefined): number => (typeof state === 'number' ? state : 0);

const rowOf = ({ table, key }: ParkedLetter): string | null => (key === null ? null : `${table}/${key.id}`);

/** What people have accepted, in no order. */
export function acceptedOf(control: ControlLog): AcceptedRecord[] {
  return control.entries<AcceptedRecord>(stateKeys.letter('')).map(([, record]) => record);
}

/** A person's decision counts for more than what a redrive did. */
function stateOf(control: ControlLog, accepted: ReadonlySet<string>, letter: ParkedLetter, id: string): Pick<StoredLetter, 'state' | 'attempts'> {
  const offset = offsetOf(id);
  const tried = stateAt(control.get<LetterRunsRecord>(stateKeys.letterRuns(stretchOf(offset)))?.runs ?? [], offset);
  const isAccepted = control.get(stateKeys.letter(id)) !== undefined || accepted.has(`${letter.cause}/${rowOf(letter)}`);
  return { state: isAccepted ? 'accepted' : tried === 'redriven' ? tried : 'open', attempts: failures(tried) };
}

function count(groups: Map<string, LetterGroup>, { cause, table, state, at }: StoredLetter): void {
  const key = `${cause}/${table}`;
  const group = groups.get(key) ?? { cause, table, open: 0, accepted: 0, redriven: 0, oldestOpen: null };
  groups.set(key, { ...group, [state]: group[state] + 1, oldestOpen: group.oldestOpen ?? (state === 'open' ? at : null) });
}

/** The writing side for who has no transaction: the sink. On return the letters are acknowledged by all replicas. */
export interface LetterWriter {
  park(letters: readonly DeadLetter[]): Promise<void>;
  close(): Promise<void>;
}

export function createLetterWriter(kafka: KafkaClient, names: TopicNames): LetterWriter {
  const writer = createIdempotentWriter(kafka, names.dlq);
  return {
    async park(letters) {
      // All of them, also when one has failed: the writer still has the others' values, and their memory is the caller's.
      const sent = await Promise.allSettled(letters.map((letter) => writer.send(letterRecord(letter, new Date()))));
      const failed = sent.find((one) => one.status === 'rejected');
      if (failed) throw failed.reason;
    },
    close: () => writer.close(),
  };
}
