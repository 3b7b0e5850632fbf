const PARTS = ['stream', 'sink', 'migrate'] as const;
export type Part = (typeof PARTS)[number];

export interface PartHealth {
  readonly ready: boolean;
  /** Fixed words, never of a server or a row. */
  readonly why: string;
}

/** Which parts of this process are connected and work. A part that is not begun yet is not ready. */
export class Health {
  readonly #parts: Map<Part, PartHealth>;

  constructor(parts: readonly Part[]) {
    this.#parts = new Map(parts.map((part) => [part, { ready: false, why: 'starting' }]));
  }

  set(part: Part, ready: boolean, why: string): void {
    if (this.#parts.has(part)) this.#parts.set(part, { ready, why });
  }

  get parts(): ReadonlyMap<Part, PartHealth> {
    return this.#parts;
  }

  get ready(): boolean {
    return [...this.#parts.values()].every(({ ready }) => ready);
  }
}
