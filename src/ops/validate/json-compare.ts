/*
 * Compares two JSON texts by value, without making values of them: a JS number would round integers above 2^53 and so
 * call a lost digit equal. Elasticsearch does not return what was sent: where a field is excluded from _source it
 * writes the rest anew (no blanks, `1e-05` as `1.0E-5`, `\u00e9` as its character), in the same order. So both texts
 * are walked in step, and only an object whose keys come in another order is looked at member by member.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;

/** Where a value begins and ends (exclusive) in the text that was asked about. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** The index of the first byte at or after `at` that is no blank. */
export function skipBlanks(text: Buffer, at: number): number {
  for (;;) {
    const byte = text[at];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return at;
    at++;
  }
}

/** The index behind the string whose opening quote is at `at`. */
function skipString(text: Buffer, at: number): number {
  for (let i = at + 1; i < text.length; i++) {
    const byte = text[i];
    if (byte === QUOTE) return i + 1;
    if (byte === BACKSLASH) i++;
  }
  throw new SyntaxError('a JSON string has no end');
}

/** The index behind the value that begins at `at` (no blank). Takes well-formed JSON; SyntaxError where it ends early. */
export function skipValue(text: Buffer, at: number): number {
  const first = text[at];
  if (first === QUOTE) return skipString(text, at);
  if (first !== OPEN_OBJECT && first !== OPEN_ARRAY) return skipScalar(text, at);
  let depth = 0;
  for (let i = at; i < text.length; i++) {
    switch (text[i]) {
      case QUOTE:
        i = skipString(text, i) - 1;
        break;
      case OPEN_OBJECT:
      case OPEN_ARRAY:
        depth++;
        break;
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        if (--depth === 0) return i + 1;
        break;
    }
  }
  throw new SyntaxError('a JSON value has no end');
}

function skipScalar(text: Buffer, at: number): number {
  let i = at;
  for (; i < text.length; i++) {
    const byte = text[i]!;
    if (byte === COMMA || byte === CLOSE_OBJECT || byte === CLOSE_ARRAY || byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) break;
  }
  if (i === at) throw new SyntaxError('a JSON value is missing');
  return i;
}

/** The members of the object that begins at `at`, by their unescaped names, each with the span of its value. */
export function members(text: Buffer, at: number): Map<string, Span> {
  return membersFrom(text, skipBlanks(text, at + 1)).found;
}

/** As members, from the first name (or the closing brace) at `at`; `end` is behind the brace. */
export function membersFrom(text: Buffer, at: number): { found: Map<string, Span>; end: number } {
  const found = new Map<string, Span>();
  let i = at;
  while (text[i] !== CLOSE_OBJECT) {
    const nameEnd = skipString(text, i);
    const name = stringValue(text, i, nameEnd);
    const start = skipBlanks(text, skipBlanks(text, nameEnd) + 1);
    const end = skipValue(text, start);
    found.set(name, { start, end });
    i = skipBlanks(text, end);
    if (text[i] === COMMA) i = skipBlanks(text, i + 1);
  }
  return { found, end: i + 1 };
}

/** Calls `take` at the start of each element of the array that begins at `at`; it returns the end of the element. */
export function eachElement(text: Buffer, at: number, take: (start: number) => number): void {
  let i = skipBlanks(text, at + 1);
  while (text[i] !== CLOSE_ARRAY) {
    i = skipBlanks(text, take(i));
    if (text[i] === COMMA) i = skipBlanks(text, i + 1);
  }
}

/** The characters of the JSON string between its quotes at `start` and `end - 1`. */
export function stringValue(text: Buffer, start: number, end: number): string {
  const inner = text.subarray(start + 1, end - 1);
  return inner.includes(BACKSLASH) ? (JSON.parse(text.toString('utf8', start, end)) as string) : inner.toString('utf8');
}

/** A value of one text, walked forward. */
interface Cursor {
  readonly text: Buffer;
  at: number;
}

/**
 * True when both texts hold the same JSON value at `aStart` and `bStart` (blanks before it are skipped).
 *
 * Keys may come in any order. Numbers are equal by their decimal value, exactly (`1` and `1.0`, `1e2` and `100`); two
 * that are both written with a fraction or an exponent also when they are the same double, since Elasticsearch rewrites
 * them through one. Integers are never compared through a double.
 */
export function sameJson(a: Buffer, aStart: number, b: Buffer, bStart: number): boolean {
  return sameValue({ text: a, at: skipBlanks(a, aStart) }, { text: b, at: skipBlanks(b, bStart) });
}

/** Both cursors stand on a value; after `true` they stand behind it, after `false` anywhere. */
function sameValue(a: Cursor, b: Cursor): boolean {
  const kind = a.text[a.at];
  if (kind === OPEN_OBJECT) return b.text[b.at] === OPEN_OBJECT && sameObject(a, b);
  if (kind === OPEN_ARRAY) return b.text[b.at] === OPEN_ARRAY && sameArray(a, b);
  if (kind === QUOTE) return b.text[b.at] === QUOTE && sameString(a, b);
  return sameScalar(a, b);
}

/**
 * In step as long as the names agree. A value that differs under one name ends it: names are unique, so no other order
 * could help, and looking again at each level would cost 2^depth for a hostile text.
 */
function sameObject(a: Cursor, b: Cursor): boolean {
  a.at = skipBlanks(a.text, a.at + 1);
  b.at = skipBlanks(b.text, b.at + 1);
  for (;;) {
    const aEnds = a.text[a.at] === CLOSE_OBJECT;
    const bEnds = b.text[b.at] === CLOSE_OBJECT;
    if (aEnds || bEnds) {
      a.at++;
      b.at++;
      return aEnds && bEnds;
    }
    const aName = a.at;
    const bName = b.at;
    if (!sameString(a, b)) return sameRestByName(a, aName, b, bName);
    skipTo(a, COLON);
    skipTo(b, COLON);
    if (!sameValue(a, b)) return false;
    skipComma(a);
    skipComma(b);
  }
}

/** The members from the names at `aName` and `bName` to the end of both objects, in any order. */
function sameRestByName(a: Cursor, aName: number, b: Cursor, bName: number): boolean {
  const left = membersFrom(a.text, aName);
  const right = membersFrom(b.text, bName);
  if (left.found.size !== right.found.size) return false;
  for (const [name, span] of left.found) {
    const other = right.found.get(name);
    if (!other || !sameJson(a.text, span.start, b.text, other.start)) return false;
  }
  a.at = left.end;
  b.at = right.end;
  return true;
}

function sameArray(a: Cursor, b: Cursor): boolean {
  a.at = skipBlanks(a.text, a.at + 1);
  b.at = skipBlanks(b.text, b.at + 1);
  for (;;) {
    const aEnds = a.text[a.at] === CLOSE_ARRAY;
    const bEnds = b.text[b.at] === CLOSE_ARRAY;
    if (aEnds || bEnds) {
      a.at++;
      b.at++;
      return aEnds && bEnds;
    }
    if (!sameValue(a, b)) return false;
    skipComma(a);
    skipComma(b);
  }
}

function skipTo(cursor: Cursor, byte: number): void {
  const at = skipBlanks(cursor.text, cursor.at);
  if (cursor.text[at] !== byte) throw new SyntaxError('a JSON member has no value');
  cursor.at = skipBlanks(cursor.text, at + 1);
}

function skipComma(cursor: Cursor): void {
  const at = skipBlanks(cursor.text, cursor.at);
  cursor.at = cursor.text[at] === COMMA ? skipBlanks(cursor.text, at + 1) : at;
}

function sameString(a: Cursor, b: Cursor): boolean {
  const left = a.text;
  const right = b.text;
  let i = a.at + 1;
  let j = b.at + 1;
  for (;;) {
    const byte = left[i];
    if (byte !== right[j] || byte === BACKSLASH || byte === undefined) return sameEscapedString(a, b);
    i++;
    j++;
    if (byte === QUOTE) break;
  }
  a.at = i;
  b.at = j;
  return true;
}

/** One of the two escapes a character that the other may hold as it is. */
function sameEscapedString(a: Cursor, b: Cursor): boolean {
  const aEnd = skipString(a.text, a.at);
  const bEnd = skipString(b.text, b.at);
  if (stringValue(a.text, a.at, aEnd) !== stringValue(b.text, b.at, bEnd)) return false;
  a.at = aEnd;
  b.at = bEnd;
  return true;
}

function sameScalar(a: Cursor, b: Cursor): boolean {
  const aEnd = skipScalar(a.text, a.at);
  const bEnd = skipScalar(b.text, b.at);
  const left = a.text.toString('latin1', a.at, aEnd);
  const right = b.text.toString('latin1', b.at, bEnd);
  if (left !== right && !sameNumber(left, right)) return false;
  a.at = aEnd;
  b.at = bEnd;
  return true;
}

const NUMBER = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;

/** True for two JSON numbers of one decimal value, and for two with a fraction or exponent that are one double. */
export function sameNumber(a: string, b: string): boolean {
  const left = decimal(a);
  const right = decimal(b);
  if (left === undefined || right === undefined) return false;
  if (left.digits === right.digits && left.exponent === right.exponent && left.negative === right.negative) return true;
  // what no double holds is Infinity to both, and no reason to call them equal
  return left.fractional && right.fractional && Number(a) === Number(b) && Number.isFinite(Number(a));
}

/** value = ±0.digits × 10^exponent, digits without zeros at either end; zero has no digits and no sign. */
function decimal(text: string): { negative: boolean; digits: string; exponent: number; fractional: boolean } | undefined {
  const match = NUMBER.exec(text);
  if (!match) return undefined;
  const [, sign, whole, fraction = '', exponent] = match as unknown as [string, string, string, string | undefined, string | undefined];
  const fractional = match[3] !== undefined || exponent !== undefined;
  const all = whole + fraction;
  const digits = all.replace(/^0+/, '');
  if (digits === '') return { negative: false, digits: '', exponent: 0, fractional };
  return { negative: sign === '-', digits: digits.replace(/0+$/, ''), exponent: whole.length - (all.length - digits.length) + Number(exponent ?? 0), fractional };
}
