import { copyBytes } from '../../core/cells.ts';

/**
 * A buffer that grows: the bulk body is written into it byte by byte, without a JS string or object per document.
 * `bytes` is replaced when it grows, so nobody may hold on to it across a call.
 */
export class ByteWriter {
  bytes: Buffer;
  /** The same memory, four bytes at a time. */
  words: Int32Array;
  length = 0;

  constructor(capacity: number) {
    this.bytes = Buffer.allocUnsafeSlow(capacity);
    this.words = wordsOf(this.bytes);
  }

  /** Makes room for so many more bytes. */
  reserve(more: number): void {
    if (this.length + more <= this.bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.bytes.length * 2, this.length + more));
    this.bytes.copy(grown, 0, 0, this.length);
    this.bytes = grown;
    this.words = wordsOf(grown);
  }

  /** Text of ASCII characters only. */
  ascii(text: string): void {
    this.reserve(text.length);
    this.length += this.bytes.write(text, this.length, 'latin1');
  }

  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  raw(source: Buffer, start = 0, end = source.length): void {
    this.reserve(end - start);
    this.length = copyBytes(this.bytes, this.length, source, start, end);
  }

  /** A JSON string of bytes that are UTF-8: quoted, with what JSON forbids escaped. */
  jsonString(source: Buffer, start = 0, end = source.length): void {
    this.reserve(end - start + 2);
    this.bytes[this.length++] = QUOTE;
    this.escaped(source, start, end);
    this.byte(QUOTE);
  }

  /** The inside of a JSON string: UTF-8 passes, control characters, quotes and backslashes are escaped. */
  escaped(source: Buffer, start: number, end: number): void {
    let clean = start;
    for (let at = start; at < end; at++) {
      const byte = source[at]!;
      if (PLAIN[byte] === 1) continue;
      this.raw(source, clean, at);
      this.ascii(ESCAPES[byte]!);
      clean = at + 1;
    }
    this.raw(source, clean, end);
  }
}

function wordsOf(bytes: Buffer): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
}

const QUOTE = 0x22;

/** 1 for a byte that a JSON string may hold as it is. */
const PLAIN = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 0x20 && byte !== 0x22 && byte !== 0x5c ? 1 : 0));

/** The escape of each byte that needs one, as JSON.stringify writes it. */
const ESCAPES: readonly (string | undefined)[] = Array.from({ length: 256 }, (_, byte) => (PLAIN[byte] ? undefined : JSON.stringify(String.fromCharCode(byte)).slice(1, -1)));
