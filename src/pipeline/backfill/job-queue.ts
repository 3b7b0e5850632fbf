/** Jobs for several workers. A worker that finds none waits, since more may come, until the queue is closed. */
export class JobQueue<T> {
  readonly #jobs: T[] = [];
  readonly #waiting: ((job: T | undefined) => void)[] = [];
  readonly #onTaken: () => void;
  #closed = false;

  /** `onTaken` is called when somebody has come for a job. */
  constructor(onTaken: () => void = () => undefined) {
    this.#onTaken = onTaken;
  }

  /** Jobs that nobody has begun, less the workers that wait for one. */
  get ahead(): number {
    return this.#jobs.length - this.#waiting.length;
  }

  add(jobs: readonly T[]): void {
    this.#jobs.push(...jobs);
    this.#serve();
  }

  /** Takes back what nobody has begun. */
  removeIf(unwanted: (job: T) => boolean): void {
    const kept = this.#jobs.filter((job) => !unwanted(job));
    this.#jobs.splice(0, this.#jobs.length, ...kept);
  }

  take(): Promise<T | undefined> {
    const taken = new Promise<T | undefined>((resolve) => this.#waiting.push(resolve));
    this.#serve();
    this.#onTaken();
    return taken;
  }

  /** Everybody waiting, and everybody who comes later, gets undefined. */
  close(): void {
    this.#closed = true;
    this.#serve();
  }

  #serve(): void {
    while (this.#waiting.length > 0 && (this.#closed || this.#jobs.length > 0)) {
      const waiter = this.#waiting.shift() as (job: T | undefined) => void;
      waiter(this.#closed ? undefined : this.#jobs.shift());
    }
  }
}
