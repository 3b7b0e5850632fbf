import type { ByteWriter } from './byte-writer.ts';
import { plainRun } from './json-validity.ts';

/*
 * `search_text`: the full-text search that the disabled JSON fields cannot give. It holds the string values of the JSON
 * columns and the text columns as they are. Not the keys: Dify's are the same in every document (`sys.query`, `usage`),
 * so a search for one would find them all. Not numbers: nobody searches a log for 0.7.
 */

/** Writes the words of cells into `writer`, inside a JSON string that the caller has opened, up to `limit` bytes in all. */
export class SearchTextWriter {
  private readonly writer: ByteWriter;
  private readonly start: number;

  constructor(writer: ByteWriter) {
    this.writer = writer;
    this.start = writer.length;
  }

  /** Bytes written so far. */
  get length(): number {
    return this.writer.length - this.start;
  }

  /** Text as PostgreSQL has it, cut at a character after at most `limit` more bytes. */
  plain(text: Buffer, limit: number): void {
    this.separate();
    const from = this.writer.length;
    const end = cutUtf8(text, 0, Math.min(text.length, limit));
    this.writer.escaped(text, 0, end);
    // Escapes make it longer; a text of quotes alone may then be over the limit by a factor, but never without bound.
    if (this.writer.length === from && this.length > 0) this.writer.length--;
  }

  /**
   * The string values of proven JSON that the writer itself holds in [start, end), until `limit` more bytes are written.
   * From there and not from the cell, since there it lies on whole words.
   */
  json(start: number, end: number, limit: number): void {
    const stop = this.writer.length + limit;
    const { bytes, words } = this.writer;
    let at = start;
    while (at < end && this.writer.length < stop) {
      if (bytes[at++] !== QUOTE) continue;
      const from = at;
      let escapes = false;
      while (bytes[(at = plainRun(bytes, words, at))] === BACKSLASH) {
        escapes = true;
        at += 2;
      }
      const to = at++;
      if (to === from || isKey(bytes, at, end)) continue;
      this.separate();
      if (escapes) this.unescaped(bytes, from, to, stop);
      else this.writer.raw(bytes, from, cutUtf8(bytes, from, Math.min(to, from + Math.max(0, stop - this.writer.length))));
    }
  }

  private separate(): void {
    if (this.length > 0) this.writer.byte(BLANK);
  }

  /**
   * The inside of a JSON string with \uXXXX turned into UTF-8: json.dumps escapes every character that is not ASCII, and
   * Chinese text would use up the limit twice as fast. Control characters become blanks, half a surrogate pair too.
   */
  private unescaped(bytes: Buffer, from: number, to: number, stop: number): void {
    const writer = this.writer;
    let at = from;
    while (at < to && writer.length < stop) {
      const byte = bytes[at]!;
      if (byte !== BACKSLASH) {
        const run = at;
        while (at < to && bytes[at] !== BACKSLASH) at++;
        writer.raw(bytes, run, cutUtf8(bytes, run, Math.min(at, run + stop - writer.length)));
        continue;
      }
      const escape = bytes[at + 1]!;
      at += 2;
      if (escape === QUOTE || escape === BACKSLASH) {
        writer.byte(BACKSLASH);
        writer.byte(escape);
      } else if (escape === SLASH) writer.byte(SLASH);
      else if (escape !== LETTER_U) writer.byte(BLANK);
      else {
        const unit = hex4(bytes, at);
        at += 4;
        const isPair = unit >= 0xd800 && unit < 0xdc00 && bytes[at] === BACKSLASH && bytes[at + 1] === LETTER_U;
        const low = isPair ? hex4(bytes, at + 2) : 0;
        if (low >= 0xdc00 && low < 0xe000) {
          at += 6;
          codePoint(writer, 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
        } else codePoint(writer, unit);
      }
    }
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SLASH = 0x2f;
const BLANK = 0x20;
const LETTER_U = 0x75;

/** Behind a key comes a colon. */
function isKey(bytes: Buffer, at: number, end: number): boolean {
  while (at < end && bytes[at]! <= BLANK) at++;
  return bytes[at] === 0x3a && at < end;
}

/** `end`, moved back so that it does not cut a UTF-8 character in two. */
function cutUtf8(bytes: Buffer, start: number, end: number): number {
  if (end >= bytes.length) return end;
  while (end > start && (bytes[end]! & 0xc0) === 0x80) end--;
  return end;
}

function hex4(bytes: Buffer, at: number): number {
  return (hex(bytes[at]!) << 12) | (hex(bytes[at + 1]!) << 8) | (hex(bytes[at + 2]!) << 4) | hex(bytes[at + 3]!);
}

function hex(byte: number): number {
  return byte <= 0x39 ? byte - 0x30 : (byte | 0x20) - 0x57;
}

function codePoint(writer: ByteWriter, code: number): void {
  if (code < 0x20 || code === 0x7f || (code >= 0xd800 && code < 0xe000)) return writer.byte(BLANK);
  if (code < 0x80) {
    if (code === QUOTE || code === BACKSLASH) writer.byte(BACKSLASH);
    return writer.byte(code);
  }
  if (code < 0x800) writer.byte(0xc0 | (code >> 6));
  else {
    if (code < 0x10000) writer.byte(0xe0 | (code >> 12));
    else {
      writer.byte(0xf0 | (code >> 18));
      writer.byte(0x80 | ((code >> 12) & 0x3f));
    }
    writer.byte(0x80 | ((code >> 6) & 0x3f));
  }
  writer.byte(0x80 | (code & 0x3f));
}
