import { setTimeout as sleep } from 'node:timers/promises';
import { DifyEsError } from '../core/errors.ts';
import { parseLsn, type Lsn } from '../core/lsn.ts';
import type { SlotState } from '../pipeline/capture/slot.ts';
import { query, type Queryable } from '../pipeline/capture/pg-connection.ts';

/** Where the path stands. `reader`: the slot has not confirmed the mark yet; `sink`: records are not settled yet. */
export interface DrainState {
  readonly waitsFor: 'reader' | 'sink';
  /** Bytes of WAL, or records (markers included), still to go. */
  readonly left: bigint;
  /** Somebody is there to do it: the slot is being read; the group has a member. */
  readonly attended: boolean;
}

/** How far the group of sinks has come. Offsets count transaction markers, so `left` 0 has to be exact. */
export interface GroupProgress<Ends> {
  /** The ends of all partitions now. */
  ends(): Promise<Ends>;
  /** Offsets between the committed ones and those ends; 0 exactly when every record below them is settled. */
  left(ends: Ends): Promise<bigint>;
  /** Members of the group. */
  members(): Promise<number>;
}

export interface DrainPorts<Ends> {
  readonly db: Queryable;
  readonly slot: () => Promise<SlotState | undefined>;
  readonly group: GroupProgress<Ends>;
}

export interface DrainOptions {
  /** Without any progress for so long it is given up. */
  readonly stallMs: number;
  /** Nobody reading the slot, or no sink in the group, for so long: given up sooner. Longer than a restart takes. */
  readonly unattendedMs: number;
  readonly signal: AbortSignal;
  readonly onState?: (state: DrainState) => void;
}

const POLL_MS = [20, 50, 100, 200, 500] as const;

/**
 * Waits until everything that was visible when it was called is in Elasticsearch (or settled otherwise:
 * docs/03-acknowledgement.md), and returns the LSN that was taken then. Throws NOT_DRAINED, naming who does not get on;
 * PG_SLOT_MISSING, PG_SLOT_LOST.
 *
 * First the slot, which is confirmed only for what Kafka has committed, then the group: in the other order records could
 * still be on their way into the topics behind the ends that were looked at.
 */
export async function drain<Ends>(ports: DrainPorts<Ends>, options: DrainOptions): Promise<Lsn> {
  const mark = await markNow(ports.db);
  await waitUntilDone(() => readerState(ports, mark), options);
  const ends = await ports.group.ends();
  await waitUntilDone(() => sinkState(ports, ends), options);
  return mark;
}

/**
 * An LSN above the commit of everything that is visible now, and one that the slot will reach by itself.
 *
 * Not pg_current_wal_insert_lsn() alone: what was committed with synchronous_commit = off is visible before it is
 * flushed, a walsender sends only what is flushed, and at the start of a page the insert position lies behind a header
 * that nothing has reached. A commit of our own flushes all that lies before it. It writes a message to the log, which no
 * table sees and the reader passes over; a missing standby cannot hold it up.
 */
export async function markNow(db: Queryable): Promise<Lsn> {
  await query(db, `SELECT set_config('synchronous_commit', 'local', false)`);
  await query(db, `SELECT pg_logical_emit_message(true, 'dify-es.drain', '')`);
  const [row] = await query<{ lsn: string }>(db, 'SELECT pg_current_wal_flush_lsn()::text AS lsn');
  return parseLsn(row!.lsn);
}

async function readerState({ slot }: Pick<DrainPorts<never>, 'slot'>, mark: Lsn): Promise<DrainState> {
  const state = await slot();
  if (!state) throw new DifyEsError('PG_SLOT_MISSING', 'the replication slot is gone');
  if (state.confirmedFlushLsn === null || state.walStatus === 'lost') throw new DifyEsError('PG_SLOT_LOST', `the replication slot "${state.name}" is lost`);
  const left = mark - state.confirmedFlushLsn;
  return { waitsFor: 'reader', left: left > 0n ? left : 0n, attended: state.activePid !== null };
}

async function sinkState<Ends>({ group }: DrainPorts<Ends>, ends: Ends): Promise<DrainState> {
  const left = await group.left(ends);
  return { waitsFor: 'sink', left, attended: left === 0n || (await group.members()) > 0 };
}

async function waitUntilDone(look: () => Promise<DrainState>, options: DrainOptions): Promise<void> {
  const watch = new StallWatch(options);
  for (let attempt = 0; ; attempt++) {
    options.signal.throwIfAborted();
    const state = await look();
    if (state.left === 0n) return;
    options.onState?.(state);
    const stalled = watch.look(state, performance.now());
    if (stalled) throw new DifyEsError('NOT_DRAINED', stalled);
    await sleep(POLL_MS[Math.min(attempt, POLL_MS.length - 1)], undefined, { signal: options.signal });
  }
}

/** Decides when waiting is over, from the states it is shown: pure, the time is given. */
export class StallWatch {
  readonly #limits: Pick<DrainOptions, 'stallMs' | 'unattendedMs'>;
  #least: bigint | null = null;
  #progressAt = 0;
  #attendedAt = 0;

  constructor(limits: Pick<DrainOptions, 'stallMs' | 'unattendedMs'>) {
    this.#limits = limits;
  }

  /** Why it is over, as a line for a person; undefined while it is worth waiting. */
  look({ waitsFor, left, attended }: DrainState, nowMs: number): string | undefined {
    if (this.#least === null) this.#attendedAt = nowMs;
    if (this.#least === null || left < this.#least) {
      this.#least = left;
      this.#progressAt = nowMs;
    }
    if (attended) this.#attendedAt = nowMs;
    const what = waitsFor === 'reader' ? `${left} bytes of WAL are not published` : `${left} records are not settled`;
    if (nowMs - this.#attendedAt > this.#limits.unattendedMs) return `${what}, and ${waitsFor === 'reader' ? 'nobody reads the slot' : 'the consumer group has no member'}`;
    if (nowMs - this.#progressAt > this.#limits.stallMs) return `${what}, without any progress for ${Math.round((nowMs - this.#progressAt) / 1000)} s`;
    return undefined;
  }
}

