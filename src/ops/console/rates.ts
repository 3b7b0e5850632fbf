/** A counter at one moment. */
export interface Sample {
  readonly atMs: number;
  readonly value: number;
}

/** Long enough to be calm, short enough to be seen to move. */
const WINDOW_MS = 12_000;
/** Two looks while nobody watches are far apart; beyond this nothing is said of what was between. */
const LONGEST_GAP_MS = 60_000;

/** The rate of a counter that is looked at now and then, over the last seconds. A counter that falls has begun anew. */
export class Rate {
  readonly #samples: Sample[] = [];

  add(value: number, atMs: number): void {
    const last = this.#samples.at(-1);
    if (last && (value < last.value || atMs - last.atMs > LONGEST_GAP_MS)) this.#samples.length = 0;
    this.#samples.push({ value, atMs });
    // the oldest kept one is the last at or beyond the window, so that slow looks still give a rate
    while (this.#samples.length > 2 && this.#samples[1]!.atMs <= atMs - WINDOW_MS) this.#samples.shift();
  }

  /** A second; null until there are two looks. */
  get perSecond(): number | null {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    return first && last && last.atMs > first.atMs ? ((last.value - first.value) * 1000) / (last.atMs - first.atMs) : null;
  }
}

/** Rates by name: each look at a thing adds to its own counters. */
export class Rates {
  readonly #rates = new Map<string, Rate>();

  add(name: string, value: number, atMs: number): void {
    let rate = this.#rates.get(name);
    if (!rate) this.#rates.set(name, (rate = new Rate()));
    rate.add(value, atMs);
  }

  perSecond(name: string): number | null {
    return this.#rates.get(name)?.perSecond ?? null;
  }
}

/** One point of the curve of the last minutes: records a second into Kafka, operations a second in Elasticsearch. */
export type Point = readonly [atMs: number, published: number | null, indexed: number | null];

const POINTS = 150;

/** The curve that a page shows at once when it is opened. */
export class Curve {
  #points: Point[] = [];

  add(point: Point): void {
    this.#points = [...this.#points.slice(-(POINTS - 1)), point];
  }

  get points(): readonly Point[] {
    return this.#points;
  }
}
