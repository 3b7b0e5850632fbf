/**
 * Jobs for several workers. A worker that finds no job waits as long as another one works, since that one may add jobs
 * (a rewritten table starts again), and gets undefined when all is done.
 */
export class JobQueue<T> {
  readonly #jobs: T[] = [];
  readonly #waiting: ((job: T | undefined) => void)[] = [];
  #working = 0;
  #closed = false;

  add(jobs: readonly T[]): void {
    this.#jobs.push(...jobs);
    this.#serve();
  }

  /** Takes back what nobody has begun. */
  removeIf(unwanted: (job: T) => boolean): void {
    const kept = this.#jobs.filter((job) => !unwanted(job));
    this.#jobs.splice(0, this.#jobs.length, ...kept);
  }

  /** Each job taken must be ended with `finished`. */
  take(): Promise<T | undefined> {
    const taken = new Promise<T | undefined>((resolve) => this.#waiting.push(resolve));
    this.#serve();
    return taken;
  }

  finished(): void {
    this.#working--;
    this.#serve();
  }

  /** Everybody waiting, and everybody who comes later, gets undefined. */
  close(): void {
    this.#closed = true;
    this.#serve();
  }

  #serve(): void {
    while (this.#waiting.length > 0) {
      const over = this.#closed || (this.#jobs.length === 0 && this.#working === 0);
      if (!over && this.#jobs.length === 0) return;
      const waiter = this.#waiting.shift() as (job: T | undefined) => void;
      if (over) {
        waiter(undefined);
        continue;
      }
      this.#working++;
      waiter(this.#jobs.shift());
    }
  }
}
