/*
 * The proof that a text column may be spliced into a bulk body as it is. The text is other people's input: unproven, a
 * quote or a line break in it could end the document and begin an action of its own.
 *
 * One pass over the bytes, no JS value made: 0.4 ns a byte of long strings, 1.7 of a graph, where JSON.parse of the
 * decoded text takes 0.5 and 3.4 and cannot see a key that is there twice. What Elasticsearch refuses though JSON.parse accepts it, found by trying it on
 * 8.19.21 and 9.5.3 inside an object with `enabled: false`: a key twice in one object, a depth above 1,000, a number of
 * more than 1,000 digits. What it accepts and keeps: any JSON value in place of an object, empty keys, keys with dots,
 * keys of 200,000 characters, 100,000 keys, \u0000, escapes of lone surrogates, strings of 12 MB. What it accepts and
 * changes, where it writes _source anew (see mapping.ts): 1e400 becomes the text "Infinity".
 */

/** Elasticsearch's parser refuses a document nested deeper than 1,000; the rest is for what is around the column. */
export const MAX_DEPTH = 900;

/** Its limit is 1,000 digits, those of the exponent counted. Here signs and points count too, a little stricter. */
export const MAX_NUMBER_LENGTH = 1000;

/** So many keys of an object are compared one by one; beyond, in a set, so that a hostile object stays linear. */
const FEW_KEYS = 32;

const SHORT_RUN = 20;

/** 1 for a byte that goes on inside a string: all but control characters, the quote and the backslash. */
const PLAIN = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 0x20 && byte !== 0x22 && byte !== 0x5c ? 1 : 0));
const DIGIT = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 0x30 && byte <= 0x39 ? 1 : 0));
const HEX = Uint8Array.from({ length: 256 }, (_, byte) => (/[0-9a-fA-F]/.test(String.fromCharCode(byte)) ? 1 : 0));
/** 1 for what may follow a backslash, 2 for the `u` that wants four hex digits. */
const ESCAPE = Uint8Array.from({ length: 256 }, (_, byte) => (byte === 0x75 ? 2 : '"\\/bfnrt'.includes(String.fromCharCode(byte)) ? 1 : 0));

/** The keys of all open objects, one behind the other; an object's own begin where its frame says. */
let keyStart = new Int32Array(1024);
let keyEnd = new Int32Array(1024);
let keyHash = new Int32Array(1024);
const frameIsObject = new Uint8Array(MAX_DEPTH + 1);
const frameKeys = new Int32Array(MAX_DEPTH + 1);
const frameSet: (Set<string> | undefined)[] = new Array<Set<string> | undefined>(MAX_DEPTH + 1).fill(undefined);
let keys = 0;
/** Set by `key`. */
let hash = 0;

/**
 * True when bytes[start, end) is JSON as JSON.parse accepts it, within the limits above. Raw line breaks, which JSON
 * allows between tokens only, are turned into blanks in place, since a line break ends a document in a bulk body.
 *
 * bytes[end] must exist and is overwritten with 0, which is legal nowhere and so ends every loop. `words` is the same
 * memory, as far as whole words go.
 */
export function proveJson(bytes: Uint8Array, words: Int32Array, start: number, end: number): boolean {
  bytes[end] = 0;
  keys = 0;
  let depth = 0;
  let at = start;
  for (;;) {
    // A value begins here.
    let byte = bytes[at]!;
    if (byte <= 0x20) byte = bytes[(at = blanks(bytes, at))]!;
    if (byte === 0x22) at = string(bytes, words, at + 1);
    else if (byte === 0x7b || byte === 0x5b) {
      if (++depth > MAX_DEPTH) return false;
      const object = byte === 0x7b;
      frameIsObject[depth] = object ? 1 : 0;
      frameKeys[depth] = keys;
      frameSet[depth] = undefined;
      at = blanks(bytes, at + 1);
      if (bytes[at] !== (object ? 0x7d : 0x5d)) {
        if (object && (at = member(bytes, words, at, depth)) < 0) return false;
        continue;
      }
      at++;
      depth--;
    } else at = byte === 0x2d || DIGIT[byte] === 1 ? number(bytes, at) : literal(bytes, at, byte);
    if (at < 0) return false;

    // A value ended here: close what ends with it, until another one begins.
    for (;;) {
      byte = bytes[at]!;
      if (byte <= 0x20) byte = bytes[(at = blanks(bytes, at))]!;
      if (depth === 0) return at === end;
      const object = frameIsObject[depth] === 1;
      if (byte === 0x2c) {
        at = blanks(bytes, at + 1);
        if (object && (at = member(bytes, words, at, depth)) < 0) return false;
        break;
      }
      if (byte !== (object ? 0x7d : 0x5d)) return false;
      keys = frameKeys[depth]!;
      frameSet[depth] = undefined;
      depth--;
      at++;
    }
  }
}

function blanks(bytes: Uint8Array, at: number): number {
  for (;;) {
    const byte = bytes[at]!;
    if (byte === 0x0a || byte === 0x0d) bytes[at] = 0x20;
    else if (byte !== 0x20 && byte !== 0x09) return at;
    at++;
  }
}

/** From behind the opening quote to behind the closing one; -1 when it is no string. */
function string(bytes: Uint8Array, words: Int32Array, at: number): number {
  for (;;) {
    // Chinese text is one escape behind the other: json.dumps writes every character as \uXXXX.
    if (PLAIN[bytes[at]!] === 1) at = plainRun(bytes, words, at);
    const byte = bytes[at]!;
    if (byte === 0x22) return at + 1;
    if (byte !== 0x5c || (at = escape(bytes, at + 1)) < 0) return -1;
  }
}

/**
 * The first byte from `at` on that a string cannot hold as it is. Four bytes at a time: `(x - 0x01010101) & ~x` has the
 * high bit of every byte that is 0 (and at times of one above such a byte, which the loop by bytes then settles); the
 * same with 0x20 finds what is below it. Most of a row is long strings, and this is half the time of the loop by bytes.
 */
export function plainRun(bytes: Uint8Array, words: Int32Array, at: number): number {
  // Most strings of a graph are shorter than it pays to begin with words.
  const short = at + SHORT_RUN;
  while (at < short || (at & 3) !== 0) {
    if (PLAIN[bytes[at]!] === 0) return at;
    at++;
  }
  let word = at >> 2;
  for (; word < words.length; word++) {
    const x = words[word]!;
    const quote = x ^ 0x22222222;
    const backslash = x ^ 0x5c5c5c5c;
    if (((((x - 0x20202020) & ~x) | ((quote - 0x01010101) & ~quote) | ((backslash - 0x01010101) & ~backslash)) & 0x80808080) !== 0) break;
  }
  at = word << 2;
  while (PLAIN[bytes[at]!] === 1) at++;
  return at;
}

/** From behind the backslash to behind the escape; -1 when it is none. */
function escape(bytes: Uint8Array, at: number): number {
  const kind = ESCAPE[bytes[at]!]!;
  if (kind === 1) return at + 1;
  if (kind === 0 || HEX[bytes[at + 1]!] === 0 || HEX[bytes[at + 2]!] === 0 || HEX[bytes[at + 3]!] === 0 || HEX[bytes[at + 4]!] === 0) return -1;
  return at + 5;
}

/** A key that is new to its object, and the colon behind it; -1 when it is not that. */
function member(bytes: Uint8Array, words: Int32Array, at: number, depth: number): number {
  if (bytes[at] !== 0x22) return -1;
  const from = at + 1;
  const behind = key(bytes, words, from);
  if (behind < 0 || !isNewKey(bytes, from, behind - 1, depth)) return -1;
  at = bytes[behind] === 0x3a ? behind : blanks(bytes, behind);
  return bytes[at] === 0x3a ? at + 1 : -1;
}

/** As `string`, and takes the hash of what the key means: of its UTF-8 bytes with escapes resolved. */
function key(bytes: Uint8Array, words: Int32Array, from: number): number {
  let at = from;
  let sum = 0;
  for (;;) {
    const byte = bytes[at]!;
    if (PLAIN[byte] === 0) break;
    sum = (Math.imul(sum, 31) + byte) | 0;
    at++;
  }
  hash = sum;
  if (bytes[at] === 0x22) return at + 1;
  const behind = string(bytes, words, at);
  if (behind >= 0) hash = hashOf(meaning(bytes, from, behind - 1));
  return behind;
}

function hashOf(text: string): number {
  let sum = 0;
  for (const byte of Buffer.from(text)) sum = (Math.imul(sum, 31) + byte) | 0;
  return sum;
}

function meaning(bytes: Uint8Array, from: number, to: number): string {
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset + from - 1, to - from + 2).toString()) as string;
}

function isNewKey(bytes: Uint8Array, from: number, to: number, depth: number): boolean {
  const base = frameKeys[depth]!;
  const set = frameSet[depth];
  if (set) {
    const before = set.size;
    return set.add(meaning(bytes, from, to)).size > before;
  }
  for (let other = base; other < keys; other++) {
    if (keyHash[other] === hash && sameKey(bytes, keyStart[other]!, keyEnd[other]!, from, to)) return false;
  }
  if (keys === keyStart.length) growKeys();
  keyStart[keys] = from;
  keyEnd[keys] = to;
  keyHash[keys] = hash;
  keys++;
  if (keys - base > FEW_KEYS) toSet(bytes, base, depth);
  return true;
}

function toSet(bytes: Uint8Array, base: number, depth: number): void {
  const set = new Set<string>();
  for (let other = base; other < keys; other++) set.add(meaning(bytes, keyStart[other]!, keyEnd[other]!));
  frameSet[depth] = set;
}

function sameKey(bytes: Uint8Array, from: number, to: number, otherFrom: number, otherTo: number): boolean {
  if (to - from !== otherTo - otherFrom) return meaning(bytes, from, to) === meaning(bytes, otherFrom, otherTo);
  for (let at = from, other = otherFrom; at < to; at++, other++) {
    if (bytes[at] !== bytes[other]) return meaning(bytes, from, to) === meaning(bytes, otherFrom, otherTo);
  }
  return true;
}

function growKeys(): void {
  const grow = (old: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> => {
    const grown = new Int32Array(old.length * 2);
    grown.set(old);
    return grown;
  };
  [keyStart, keyEnd, keyHash] = [grow(keyStart), grow(keyEnd), grow(keyHash)];
}

/** From its first byte to behind its last; -1 when it is no number, too long, or beyond a double. */
function number(bytes: Uint8Array, start: number): number {
  let at = bytes[start] === 0x2d ? start + 1 : start;
  if (bytes[at] === 0x30) at++;
  else if ((at = digits(bytes, at)) < 0) return -1;
  const whole = at;
  if (bytes[at] === 0x2e && (at = digits(bytes, at + 1)) < 0) return -1;
  const exponent = bytes[at] === 0x65 || bytes[at] === 0x45;
  if (exponent) {
    const sign = bytes[at + 1] === 0x2b || bytes[at + 1] === 0x2d;
    if ((at = digits(bytes, sign ? at + 2 : at + 1)) < 0) return -1;
  }
  if (at - start > MAX_NUMBER_LENGTH) return -1;
  // Only an integer is kept with all its digits; anything else becomes a double in Elasticsearch.
  if (exponent || (at > whole && whole - start > 300)) return isFiniteDouble(bytes, start, at) ? at : -1;
  return at;
}

function isFiniteDouble(bytes: Uint8Array, from: number, to: number): boolean {
  return Number.isFinite(Number(Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('latin1')));
}

function digits(bytes: Uint8Array, at: number): number {
  if (DIGIT[bytes[at]!] === 0) return -1;
  while (DIGIT[bytes[at]!] === 1) at++;
  return at;
}

function literal(bytes: Uint8Array, at: number, first: number): number {
  if (first === 0x74) return bytes[at + 1] === 0x72 && bytes[at + 2] === 0x75 && bytes[at + 3] === 0x65 ? at + 4 : -1;
  if (first === 0x6e) return bytes[at + 1] === 0x75 && bytes[at + 2] === 0x6c && bytes[at + 3] === 0x6c ? at + 4 : -1;
  if (first !== 0x66) return -1;
  return bytes[at + 1] === 0x61 && bytes[at + 2] === 0x6c && bytes[at + 3] === 0x73 && bytes[at + 4] === 0x65 ? at + 5 : -1;
}
