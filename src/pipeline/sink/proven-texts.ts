/** Shorter texts are proven as quickly as they are looked up; longer ones are not worth the memory. */
const SHORTEST = 1 << 10;
const LONGEST = 1 << 18;
/** All that is kept, in bytes and in marks. When there is more it begins anew: nothing but time depends on it. */
const MOST_BYTES = 4 << 20;
const MOST_MARKS = 4_096;
/** Places of a text that its mark is made of. */
const SAMPLES = 32;

/**
 * JSON texts that were proven already. Dify stores a workflow's graph anew with each of its runs, so more than half of all
 * JSON bytes are a few texts again and again (measured: 2.9 us a row instead of 7.5, copying included). A text is kept when
 * its mark comes for the second time; the mark only finds it, the comparison of all its bytes is what counts.
 */
export class ProvenTexts {
  readonly #texts = new Map<number, Buffer | undefined>();
  #bytes = 0;

  /** True when bytes[start, end) is a text that was `add`ed. */
  has(bytes: Buffer, start: number, end: number): boolean {
    if (!isWorthIt(end - start)) return false;
    const text = this.#texts.get(markOf(bytes, start, end));
    return text !== undefined && text.length === end - start && bytes.compare(text, 0, text.length, start, end) === 0;
  }

  /** bytes[start, end) has just been proven. Its bytes may change afterwards. */
  add(bytes: Uint8Array, start: number, end: number): void {
    if (!isWorthIt(end - start)) return;
    if (this.#texts.size >= MOST_MARKS || this.#bytes > MOST_BYTES) {
      this.#texts.clear();
      this.#bytes = 0;
    }
    const mark = markOf(bytes, start, end);
    if (!this.#texts.has(mark)) return void this.#texts.set(mark, undefined);
    this.#bytes += end - start - (this.#texts.get(mark)?.length ?? 0);
    this.#texts.set(mark, Buffer.from(bytes.subarray(start, end)));
  }
}

const isWorthIt = (length: number): boolean => length >= SHORTEST && length <= LONGEST;

function markOf(bytes: Uint8Array, start: number, end: number): number {
  const step = (end - start) / SAMPLES;
  let mark = end - start;
  for (let n = 0; n < SAMPLES; n++) mark = (Math.imul(mark, 31) + bytes[start + Math.floor(n * step)]!) | 0;
  return mark;
}
