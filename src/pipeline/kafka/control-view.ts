/*
 * What the control topic says, without the topic: pure, so that its rules can be tested as a timeline.
 *
 * A key's newest offset wins. Own writes enter with the offset of their acknowledgement, possibly long before the
 * reader gets there (somebody's open transaction holds a read_committed reader back), and must not be undone by older
 * records that the reader passes on its way.
 */
export class ControlView {
  readonly #values = new Map<string, unknown>();
  readonly #offsets = new Map<string, bigint>();

  get(key: string): unknown {
    return this.#values.get(key);
  }

  /** Sorted by key. */
  entries(prefix: string): [string, unknown][] {
    return [...this.#values].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
  }

  /** `json: null` is a tombstone. True when the view shows something else now. Throws when the text is no JSON. */
  apply(key: string, json: string | null, offset: bigint): boolean {
    const known = this.#offsets.get(key);
    if (known !== undefined && known >= offset) return false;
    const value: unknown = json === null ? undefined : JSON.parse(json);
    this.#offsets.set(key, offset);
    if (json === null) return this.#values.delete(key);
    this.#values.set(key, value);
    return true;
  }

  /** After the topic was made anew: its offsets start again. Returns the keys that are gone. */
  clear(): string[] {
    const keys = [...this.#values.keys()];
    this.#values.clear();
    this.#offsets.clear();
    return keys;
  }
}
