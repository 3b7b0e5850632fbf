import { DifyEsError } from '../../core/errors.ts';

export interface Position {
  readonly topic: string;
  readonly partition: number;
  /** Of the next record to read. */
  readonly offset: string;
}

interface Waiting {
  readonly position: Position;
  readonly isCurrent: () => boolean;
  readonly done: PromiseWithResolvers<void>;
}

/**
 * Commits of a consumer, one request at a time: positions that come while one is under way go together in the next. A
 * sink settles a dozen partitions side by side, and each request is a record that the brokers write and replicate.
 */
export class CommitQueue {
  readonly #send: (positions: readonly Position[]) => Promise<void>;
  #waiting: Waiting[] = [];
  #sending = false;

  constructor(send: (positions: readonly Position[]) => Promise<void>) {
    this.#send = send;
  }

  /**
   * Resolves when the group has the position; rejects as its request does. `isCurrent` is asked right before that is sent:
   * a position that has waited into another generation of the group would set back what the partition's new owner has
   * committed, and where no further record comes it would stay there.
   */
  commit(position: Position, isCurrent: () => boolean): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#waiting.push({ position, isCurrent, done });
    if (!this.#sending) void this.#sendAll();
    return done.promise;
  }

  async #sendAll(): Promise<void> {
    this.#sending = true;
    while (this.#waiting.length > 0) {
      const taken = this.#waiting;
      this.#waiting = [];
      const current = taken.filter(({ isCurrent }) => isCurrent());
      for (const one of taken) if (!current.includes(one)) one.done.reject(new DifyEsError('KAFKA_UNREACHABLE', 'Kafka: the group has moved on since the records were read'));
      if (current.length === 0) continue;
      try {
        await this.#send(current.map(({ position }) => position));
        for (const { done } of current) done.resolve();
      } catch (error) {
        for (const { done } of current) done.reject(error);
      }
    }
    this.#sending = false;
  }
}
