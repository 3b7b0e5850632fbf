import type { FieldSpec } from '../../connector/definition.ts';
import type { ByteWriter } from './byte-writer.ts';

/** Writes one value that is not JSON: the server's own text in, one JSON value out. Nothing here can fail. */
export function writeScalar(writer: ByteWriter, kind: Exclude<FieldSpec['kind'], 'json'>, cell: Buffer): void {
  switch (kind) {
    case 'keyword':
    case 'text': return writer.jsonString(cell);
    case 'date': return writeDate(writer, cell);
    case 'integer':
    case 'long':
    case 'float': return writeNumber(writer, cell);
    default: throw new TypeError(`unknown kind ${String(kind satisfies never)}`);
  }
}

/**
 * `2025-10-10 08:25:41.1234` as `"2025-10-10T08:25:41.123400"`: what fromisoformat of every Python reads, with six digits
 * or none. Dates that are no such thing (infinity, BC, a zone) stay as PostgreSQL prints them; the field ignores them.
 */
export function writeDate(writer: ByteWriter, cell: Buffer): void {
  if (!isTimestamp(cell)) return writer.jsonString(cell);
  writer.reserve(28);
  const bytes = writer.bytes;
  let to = writer.length;
  bytes[to++] = QUOTE;
  for (let at = 0; at < SECONDS; at++) bytes[to++] = at === 10 ? LETTER_T : cell[at]!;
  if (hasFraction(cell)) {
    bytes[to++] = POINT;
    for (let at = SECONDS + 1; at < LONGEST; at++) bytes[to++] = at < cell.length ? cell[at]! : ZERO;
  }
  bytes[to++] = QUOTE;
  writer.length = to;
}

/** Raw digits, so no value is rounded here. NaN and the infinities, which JSON has no number for, as texts. */
export function writeNumber(writer: ByteWriter, cell: Buffer): void {
  if (isJsonNumber(cell)) writer.escaped(cell, 0, cell.length);
  else writer.jsonString(cell);
}

const QUOTE = 0x22;
const POINT = 0x2e;
const ZERO = 0x30;
const LETTER_T = 0x54;
/** Length of `YYYY-MM-DD HH:MM:SS`, and with six digits behind it. */
const SECONDS = 19;
const LONGEST = 26;

const PATTERN = '0000-00-00 00:00:00.000000';

function isTimestamp(cell: Buffer): boolean {
  if (cell.length < SECONDS || cell.length > LONGEST || cell.length === SECONDS + 1) return false;
  for (let at = 0; at < cell.length; at++) {
    const want = PATTERN.charCodeAt(at);
    if (want === ZERO ? !isDigit(cell[at]!) : cell[at] !== want) return false;
  }
  return true;
}

function hasFraction(cell: Buffer): boolean {
  for (let at = SECONDS + 1; at < cell.length; at++) if (cell[at] !== ZERO) return true;
  return false;
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= 0x39;
}

/** Longer than Elasticsearch takes: numeric can print more digits than any of Dify's columns ever will. */
const MAX_NUMBER_LENGTH = 1000;

/** A number as JSON has it; and as a double it must be finite, or _source would later say "Infinity". */
function isJsonNumber(cell: Buffer): boolean {
  if (cell.length === 0 || cell.length > MAX_NUMBER_LENGTH) return false;
  let exponent = false;
  for (let at = 0; at < cell.length; at++) {
    const byte = cell[at]!;
    if (isDigit(byte)) continue;
    if (byte === 0x65 || byte === 0x45) exponent = true;
    else if (byte !== 0x2d && byte !== 0x2b && byte !== POINT) return false;
  }
  if (!exponent && cell.length < 17 && isPlainNumber(cell)) return true;
  const text = cell.toString('latin1');
  return JSON_NUMBER.test(text) && Number.isFinite(Number(text));
}

const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** The common case without a regular expression: `-`, digits without a leading zero, perhaps a point and more digits. */
function isPlainNumber(cell: Buffer): boolean {
  let at = cell[0] === 0x2d ? 1 : 0;
  const first = at;
  while (at < cell.length && isDigit(cell[at]!)) at++;
  if (at === first || (cell[first] === ZERO && at > first + 1)) return false;
  if (at === cell.length) return true;
  if (cell[at] !== POINT) return false;
  const fraction = ++at;
  while (at < cell.length && isDigit(cell[at]!)) at++;
  return at === cell.length && at > fraction;
}
