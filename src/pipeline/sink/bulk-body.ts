import type { Row } from '../../core/contracts.ts';
import { ByteWriter } from './byte-writer.ts';
import type { Target } from './coalesce.ts';
import type { DocumentWriter } from './document.ts';

/** One operation inside a body: its bytes are its action line and its document, each with its line break. */
export interface BulkItem<T extends Target> {
  readonly target: T;
  readonly deletes: boolean;
  readonly jsonColumns: number;
  readonly invalidJson: number;
  readonly start: number;
  readonly end: number;
}

/**
 * A body that grows item by item. Its memory is used for one bulk after the other; `clear` begins the next, and may only
 * be called when the request with the last one has ended in an answer.
 */
export class BulkBody<T extends Target> {
  readonly items: BulkItem<T>[] = [];
  private readonly writer: ByteWriter;

  constructor(capacity: number) {
    this.writer = new ByteWriter(capacity);
  }

  get length(): number {
    return this.writer.length;
  }

  /** Bytes of memory held. */
  get capacity(): number {
    return this.writer.bytes.length;
  }

  index(target: T, row: Row, documents: DocumentWriter, distrustJson = false): void {
    const start = this.writer.length;
    action(this.writer, 'index', target);
    const { invalidJson, jsonColumns } = documents.write(this.writer, row, distrustJson);
    this.writer.byte(LINE_BREAK);
    this.items.push({ target, deletes: false, jsonColumns, invalidJson, start, end: this.writer.length });
  }

  delete(target: T): void {
    const start = this.writer.length;
    action(this.writer, 'delete', target);
    this.items.push({ target, deletes: true, jsonColumns: 0, invalidJson: 0, start, end: this.writer.length });
  }

  /** The body of some items, in their order. A view of the memory when they are all, else a copy. */
  bytesOf(items: readonly Pick<BulkItem<T>, 'start' | 'end'>[]): Buffer {
    const { bytes } = this.writer;
    if (items.length === this.items.length) return bytes.subarray(0, this.writer.length);
    return Buffer.concat(items.map(({ start, end }) => bytes.subarray(start, end)));
  }

  clear(): void {
    this.items.length = 0;
    this.writer.length = 0;
  }
}

const LINE_BREAK = 0x0a;

/**
 * The version as raw digits: through a JS number two neighbours above 2^53 would become one. Index and id are made of
 * checked parts (a prefix of the configuration, uuids, digits), so nothing in them can end the line.
 */
function action(writer: ByteWriter, verb: 'index' | 'delete', target: Target): void {
  writer.ascii(`{"${verb}":{"_index":"${target.index}","_id":"${target.id}","version":${target.version},"version_type":"external_gte"}}\n`);
}
