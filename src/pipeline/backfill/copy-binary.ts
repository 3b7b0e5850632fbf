import { Cells } from '../../core/cells.ts';
import { SLAB_BYTES, type Slabs } from './slabs.ts';

/*
 * COPY … TO STDOUT (FORMAT binary), PostgreSQL documentation, COPY, "Binary Format": a header of 11 signature bytes, an
 * int32 of flags and an int32 length of an extension area; then for each row an int16 number of fields and for each
 * field an int32 length (-1 is NULL) and its bytes; at the end an int16 of -1. Nothing is escaped, so a field can be
 * taken as a view where the text format would cost a pass over every byte.
 */
const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');
const HEADER_BYTES = SIGNATURE.length + 8;
/** Bit 16 of the flags said WITH OIDS before PostgreSQL 12; any bit of the upper half means a format we do not know. */
const CRITICAL_FLAGS = 0xffff_0000;

/**
 * Decodes the stream, cut anywhere, into rows of cells.
 *
 * What is pushed is copied once into slabs and may be reused by the caller at once (node-postgres reuses its buffer);
 * the cells lie in the slabs, which this decoder never writes again: they stay valid as long as they are held. A row keeps
 * its slab of 1 MiB alive, so rows are to be forgotten a chunk at a time.
 */
export class CopyBinaryDecoder {
  readonly #fields: number;
  readonly #onRow: (cells: Cells) => void;
  readonly #slabs: Slabs | undefined;
  #slab: Buffer = Buffer.alloc(0);
  /** Undecoded bytes are #slab[#start, #end). */
  #start = 0;
  #end = 0;
  /** Below this many undecoded bytes it is known that the row is not complete: a row in 1,000 pieces is not tried 1,000 times. */
  #needed = HEADER_BYTES;
  #state: 'header' | 'rows' | 'ended' = 'header';

  /**
   * `fields`: columns of the SELECT; a row with another number is a fault of the program. With `slabs` the rows are valid
   * until these are recycled.
   */
  constructor(fields: number, onRow: (cells: Cells) => void, slabs?: Slabs) {
    this.#fields = fields;
    this.#onRow = onRow;
    this.#slabs = slabs;
  }

  push(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#slab.length) this.#newSlab(bytes.length);
    this.#slab.set(bytes, this.#end);
    this.#end += bytes.length;
    if (this.#end - this.#start < this.#needed) return;
    if (this.#state === 'header' && !this.#header()) return;
    while (this.#state === 'rows' && this.#row());
  }

  /** Call at the end of the stream. Throws when it was cut short: rows would be missing without a word. */
  finish(): void {
    if (this.#state !== 'ended') throw new RangeError('COPY ended before its trailer');
  }

  /** Never moves bytes within a slab: earlier rows are views of it. Only the unfinished tail goes along. */
  #newSlab(incoming: number): void {
    const tail = this.#end - this.#start;
    // PostgreSQL sends a row in one piece, so there is no tail; where there is one it grows by doubling, else a row of
    // many pieces would be copied once for each piece.
    const bytes = Math.max(SLAB_BYTES, tail === 0 ? incoming : Math.max(this.#needed, 2 * (tail + incoming)));
    const slab = this.#slabs?.take(bytes) ?? Buffer.allocUnsafeSlow(bytes);
    this.#slab.copy(slab, 0, this.#start, this.#end);
    this.#slab = slab;
    this.#start = 0;
    this.#end = tail;
  }

  #header(): boolean {
    const slab = this.#slab;
    const at = this.#start;
    if (slab.compare(SIGNATURE, 0, SIGNATURE.length, at, at + SIGNATURE.length) !== 0) throw new RangeError('not a binary COPY stream');
    if ((slab.readUInt32BE(at + SIGNATURE.length) & CRITICAL_FLAGS) !== 0) throw new RangeError('binary COPY stream with unknown flags');
    const length = HEADER_BYTES + slab.readUInt32BE(at + SIGNATURE.length + 4);
    if (this.#end - at < length) {
      this.#needed = length;
      return false;
    }
    this.#start = at + length;
    this.#state = 'rows';
    this.#needed = 2;
    return true;
  }

  /** Takes one row; false when it is not complete yet, or there is none left. */
  #row(): boolean {
    const slab = this.#slab;
    const end = this.#end;
    let at = this.#start;
    if (at + 2 > end) return this.#wait(2);
    const count = slab.readInt16BE(at);
    at += 2;
    if (count === -1) {
      this.#state = 'ended';
      return false;
    }
    if (count !== this.#fields) throw new RangeError(`COPY row with ${count} fields, expected ${this.#fields}`);
    const cells = Cells.room(slab, count);
    for (let field = 0; field < count; field++) {
      if (at + 4 > end) return this.#wait(at + 4 - this.#start);
      const length = slab.readInt32BE(at);
      at += 4;
      if (length === -1) {
        cells.putNull(field);
        continue;
      }
      if (at + length > end) return this.#wait(at + length - this.#start);
      cells.put(field, at, (at += length));
    }
    this.#start = at;
    this.#needed = 2;
    this.#onRow(cells);
    return true;
  }

  #wait(needed: number): false {
    this.#needed = needed;
    return false;
  }
}
