import type pg from 'pg';
import type { Readable } from 'node:stream';
import type { Cells } from '../../core/cells.ts';
import { CopyBinaryDecoder } from '../../pipeline/backfill/copy-binary.ts';

/**
 * A `COPY (…) TO STDOUT (FORMAT binary)` read in batches of bounded size, whatever the rows weigh: with a batch full the
 * socket is paused until it was taken. One page of a table can hold rows of several MB each.
 *
 * The statement stays open meanwhile, and with it its snapshot, which holds back vacuum: keep what it selects small.
 */
export class CopyReader implements pg.Submittable {
  readonly #sql: string;
  readonly #limitBytes: number;
  readonly #decoder: CopyBinaryDecoder;
  #rows: Cells[] = [];
  #bytes = 0;
  #socket: Readable | undefined;
  #wake: () => void = () => undefined;
  #state: 'open' | 'ended' | 'dropped' = 'open';
  #fault: Error | undefined;

  /** `fields`: columns of the SELECT. */
  constructor(select: string, fields: number, limitBytes: number) {
    this.#sql = `COPY (${select}) TO STDOUT (FORMAT binary)`;
    this.#limitBytes = limitBytes;
    this.#decoder = new CopyBinaryDecoder(fields, (cells) => this.#rows.push(cells));
  }

  /** The rows in the order of the statement. The rest is read away when the caller stops early. */
  async *batches(): AsyncGenerator<Cells[]> {
    try {
      for (;;) {
        while (this.#state === 'open' && this.#bytes < this.#limitBytes) await new Promise<void>((resolve) => (this.#wake = resolve));
        if (this.#fault) throw this.#fault;
        const rows = this.#rows;
        this.#rows = [];
        this.#bytes = 0;
        if (rows.length > 0) yield rows;
        if (this.#state === 'ended' && this.#rows.length === 0) return;
        this.#socket?.resume();
      }
    } finally {
      if (this.#state === 'open') this.#state = 'dropped';
      this.#socket?.resume();
    }
  }

  submit(connection: pg.Connection): void {
    this.#socket = (connection as unknown as { stream: Readable }).stream;
    connection.query(this.#sql);
  }

  handleCopyData(message: { readonly chunk: Uint8Array }): void {
    if (this.#state !== 'open' || this.#fault) return;
    try {
      this.#decoder.push(message.chunk);
    } catch (error) {
      // thrown here it would end in the socket's data handler and take the process down
      this.#fault = error as Error;
      this.#wake();
      return;
    }
    this.#bytes += message.chunk.length;
    if (this.#bytes < this.#limitBytes) return;
    this.#socket?.pause();
    this.#wake();
  }

  handleReadyForQuery(): void {
    if (this.#state === 'open' && !this.#fault) {
      try {
        this.#decoder.finish();
      } catch (error) {
        this.#fault = error as Error;
      }
    }
    this.#end();
  }

  handleError(error: Error): void {
    this.#fault ??= error;
    this.#end();
  }

  #end(): void {
    if (this.#state === 'open') this.#state = 'ended';
    this.#wake();
  }

  handleCommandComplete(): void {}
  handleRowDescription(): void {}
}
