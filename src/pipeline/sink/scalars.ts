import type { FieldSpec } from '../../connector/definition.ts';
import type { ByteWriter } from './byte-writer.ts';

/** Writes one value that is not JSON: the server's own text in, one JSON value out. Nothing here can fail. */
export function writeScalar(writer: ByteWriter, kind: Exclude<FieldSpec['kind'], 'json'>, text: Buffer, start: number, end: number): void {
  switch (kind) {
    case 'keyword':
    case 'text': return writer.jsonString(text, start, end);
    case 'date': return writeDate(writer, text, start, end);
    case 'integer':
    case 'long':
    case 'float': return writeNumber(writer, text, start, end);
    default: throw new TypeError(`unknown kind ${String(kind satisfies never)}`);
  }
}

/**
 * `2025-10-10 08:25:41.1234` as `"2025-10-10T08:25:41.123400"`: what fromisoformat of every Python reads, with six digits
 * or none. Dates that are no such thing (infinity, BC, a zone) stay as PostgreSQL prints them; the field ignores them.
 */
function writeDate(writer: ByteWriter, text: Buffer, start: number, end: number): void {
  if (!isTimestamp(text, start, end)) return writer.jsonString(text, start, end);
  writer.reserve(28);
  const bytes = writer.bytes;
  let to = writer.length;
  bytes[to++] = QUOTE;
  for (let at = 0; at < SECONDS; at++) bytes[to++] = at === 10 ? LETTER_T : text[start + at]!;
  if (hasFraction(text, start, end)) {
    bytes[to++] = POINT;
    for (let at = start + SECONDS + 1; at < start + LONGEST; at++) bytes[to++] = at < end ? text[at]! : ZERO;
  }
  bytes[to++] = QUOTE;
  writer.length = to;
}

/** Raw digits, so no value is rounded here. NaN and the infinities, which JSON has no number for, as texts. */
function writeNumber(writer: ByteWriter, text: Buffer, start: number, end: number): void {
  if (isJsonNumber(text, start, end)) writer.escaped(text, start, end);
  else writer.jsonString(text, start, end);
}

const QUOTE = 0x22;
const POINT = 0x2e;
const ZERO = 0x30;
const LETTER_T = 0x54;
/** Length of `YYYY-MM-DD HH:MM:SS`, and with six digits behind it. */
const SECONDS = 19;
const LONGEST = 26;

const PATTERN = '0000-00-00 00:00:00.000000';

function isTimestamp(text: Buffer, start: number, end: number): boolean {
  const length = end - start;
  if (length < SECONDS || length > LONGEST || length === SECONDS + 1) return false;
  for (let at = 0; at < length; at++) {
    const want = PATTERN.charCodeAt(at);
    if (want === ZERO ? !isDigit(text[start + at]!) : text[start + at] !== want) return false;
  }
  return true;
}

function hasFraction(text: Buffer, start: number, end: number): boolean {
  for (let at = start + SECONDS + 1; at < end; at++) if (text[at] !== ZERO) return true;
  return false;
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= 0x39;
}

/** Longer than Elasticsearch takes: numeric can print more digits than any of Dify's columns ever will. */
const MAX_NUMBER_LENGTH = 1000;

/** A number as JSON has it; and as a double it must be finite, or _source would later say "Infinity". */
function isJsonNumber(text: Buffer, start: number, end: number): boolean {
  if (end === start || end - start > MAX_NUMBER_LENGTH) return false;
  let exponent = false;
  for (let at = start; at < end; at++) {
    const byte = text[at]!;
    if (isDigit(byte)) continue;
    if (byte === 0x65 || byte === 0x45) exponent = true;
    else if (byte !== 0x2d && byte !== 0x2b && byte !== POINT) return false;
  }
  if (!exponent && end - start < 17 && isPlainNumber(text, start, end)) return true;
  const digits = text.toString('latin1', start, end);
  return JSON_NUMBER.test(digits) && Number.isFinite(Number(digits));
}

const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** The common case without a regular expression: `-`, digits without a leading zero, perhaps a point and more digits. */
function isPlainNumber(text: Buffer, start: number, end: number): boolean {
  let at = text[start] === 0x2d ? start + 1 : start;
  const first = at;
  while (at < end && isDigit(text[at]!)) at++;
  if (at === first || (text[first] === ZERO && at > first + 1)) return false;
  if (at === end) return true;
  if (text[at] !== POINT) return false;
  const fraction = ++at;
  while (at < end && isDigit(text[at]!)) at++;
  return at === end && at > fraction;
}
