import type { Socket } from 'node:net';
import type { Client } from 'pg';
import { LogicalReplicationService } from 'pg-logical-replication';
import type { Logger } from 'pino';
import type { WalMessage } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { formatLsn, maxLsn, parseLsn, type Lsn } from '../../core/lsn.ts';
import { sessionConfig, toPgError, type PgTarget, type Queryable } from './pg-connection.ts';
import { PgoutputPlugin, type SourceIdentity } from './pgoutput-plugin.ts';
import { inspectSlot, usableSlot } from './slot.ts';

/** `position`: everything that committed below it has been sent before it. */
export type WalEvent = { readonly bytes: number; readonly message: WalMessage } | { readonly bytes: 0; readonly position: Lsn };

export interface WalReaderOptions {
  readonly target: PgTarget;
  /** The role part of its application_name. */
  readonly role: string;
  readonly slot: string;
  readonly publication: string;
  /** Of a decoder made for this connection alone. */
  readonly decode: (message: Buffer) => WalMessage;
  /** Above this the socket is paused until half of it is taken; one message may go beyond. */
  readonly maxBufferedBytes: number;
  /** How often the server hears from us; well below half of its wal_sender_timeout. */
  readonly statusIntervalMs: number;
  /** A server that answers no ping for so long is gone. A walsender is silent while it skips a huge transaction. */
  readonly silenceLimitMs: number;
  readonly log: Logger;
}

/** Events that were taken and still stand before the queue: so many that moving the rest of it costs each of them little. */
const TAKEN_AT_MOST = 1 << 16;

/** What node-postgres has and its types do not tell. */
type ReplicationClient = Client & { readonly processID: number; readonly connection: { readonly stream: Socket } };

/**
 * The one replication connection: messages in their order, with back-pressure down to the server's socket.
 *
 * Answers the server all by itself, also while nobody takes anything, always with the position that was confirmed by
 * `confirm` and never with what was merely received. It never reconnects: a lost connection means that the source may
 * be another one, so its owner closes it, looks again and opens a new one.
 */
export class WalReader {
  readonly #options: WalReaderOptions;
  readonly #service: LogicalReplicationService;
  #client: ReplicationClient | undefined;
  #identity: SourceIdentity | undefined;
  #timer: NodeJS.Timeout | undefined;
  #confirmed: Lsn | undefined;
  #received = 0n as Lsn;

  #queue: WalEvent[] = [];
  #head = 0;
  #bytes = 0;
  #paused = false;
  #failure: DifyEsError | undefined;
  #wake: (() => void) | undefined;
  #heardAt = performance.now();
  #heardSinceStatus = false;

  private constructor(options: WalReaderOptions) {
    this.#options = options;
    this.#service = new LogicalReplicationService(sessionConfig(options.target, { role: options.role }), {
      acknowledge: { auto: false, timeoutSeconds: 0 },
      flowControl: { enabled: false },
    });
  }

  /**
   * Takes the slot. Throws PG_SLOT_BUSY while another reader holds it. `db` is an ordinary connection to the same server.
   *
   * The slot's position is read only after it is ours: until then the former reader may still move it, and a status
   * with an older position would set it back on servers that do not guard against that.
   */
  static async open(options: WalReaderOptions, db: Queryable): Promise<WalReader> {
    const reader = new WalReader(options);
    try {
      await reader.#start();
      reader.#confirmed = await reader.assertSlotHeld(db);
      reader.#timer = setInterval(() => reader.#onTimer(), options.statusIntervalMs);
      return reader;
    } catch (error) {
      await reader.close();
      throw toPgError(error, 'start-replication');
    }
  }

  get identity(): SourceIdentity {
    return this.#identity!;
  }

  /** What the server was told last. */
  get confirmed(): Lsn {
    return this.#confirmed!;
  }

  /** The highest position that the server has reported. */
  get received(): Lsn {
    return this.#received;
  }

  get isEmpty(): boolean {
    return this.#head === this.#queue.length;
  }

  get bufferedBytes(): number {
    return this.#bytes;
  }

  peek(): WalEvent | undefined {
    return this.#queue[this.#head];
  }

  /** The next event, or undefined when none is buffered. */
  shift(): WalEvent | undefined {
    const event = this.#queue[this.#head];
    if (event === undefined) return undefined;
    this.#queue[this.#head++] = undefined as never;
    // Under load it is never empty, and one transaction may have millions of changes.
    if (this.#head >= TAKEN_AT_MOST || this.#head === this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    this.#bytes -= event.bytes;
    if (this.#paused && this.#bytes <= this.#options.maxBufferedBytes / 2) this.#setPaused(false);
    return event;
  }

  /** Returns when an event is buffered or the time is over. Throws when the connection is lost. */
  async wait(timeoutMs: number): Promise<void> {
    if (this.#failure) throw this.#failure;
    if (!this.isEmpty) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
    if (this.#failure) throw this.#failure;
  }

  /** Ends a `wait` early. */
  wake(): void {
    this.#wake?.();
  }

  /** From now on the server is told that everything below `lsn` may be forgotten. */
  confirm(lsn: Lsn): void {
    this.#confirmed = maxLsn(lsn, this.confirmed);
    this.#sendStatus(false);
  }

  /**
   * Returns where the slot stands, and throws PG_SLOT_BUSY when it is no longer this connection that holds it: then
   * another reader may be publishing by now, and nothing that is buffered here may be published any more.
   */
  async assertSlotHeld(db: Queryable): Promise<Lsn> {
    const slot = usableSlot(await inspectSlot(db, this.#options.slot), this.#options.slot);
    if (slot.activePid !== this.#client?.processID) throw new DifyEsError('PG_SLOT_BUSY', `the replication slot "${slot.name}" is held by another reader`);
    return slot.confirmedFlushLsn;
  }

  /** Sends what was confirmed and closes the connection; never throws. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#fail(new DifyEsError('PG_UNREACHABLE', 'the reader is closed'));
    const stream = this.#client?.connection.stream;
    // stop() destroys the socket, and with it whatever is not written yet.
    if (stream?.writable) await within(1_000, new Promise<void>((resolve) => stream.write('', () => resolve())));
    await within(2_000, this.#service.stop());
  }

  async #start(): Promise<void> {
    const plugin = new PgoutputPlugin<WalEvent | undefined>({
      publication: this.#options.publication,
      parse: (buffer) => this.#parse(buffer),
      onConnected: (client, identity) => {
        this.#client = client as ReplicationClient;
        this.#identity = identity;
      },
    });
    this.#service.on('error', (error: Error) => this.#fail(toPgError(error, this.#confirmed === undefined ? 'start-replication' : 'replicate')));
    this.#service.on('data', (_lsn: string, event: WalEvent | undefined) => event && this.#push(event));
    this.#service.on('heartbeat', (lsn: string, _timeMs: number, shouldRespond: boolean) => this.#onHeartbeat(parseLsn(lsn), shouldRespond));
    await new Promise<void>((resolve, reject) => {
      this.#service.on('start', () => resolve());
      // A service that has once subscribed would start again from what it received: this one is used only once.
      this.#service.subscribe(plugin, this.#options.slot, '0/00000000').then(
        () => this.#fail(new DifyEsError('PG_UNREACHABLE', 'PostgreSQL has ended the stream')),
        (error: unknown) => {
          this.#fail(toPgError(error, this.#confirmed === undefined ? 'start-replication' : 'replicate'));
          reject(this.#failure!);
        },
      );
    });
  }

  /** The library calls this inside the socket's event: an exception there would end the process. */
  #parse(buffer: Buffer): WalEvent | undefined {
    try {
      return { bytes: buffer.length, message: this.#options.decode(buffer) };
    } catch (error) {
      this.#fail(toPgError(error, 'replicate'));
      return undefined;
    }
  }

  #push(event: WalEvent): void {
    // What comes after a message that could not be decoded would close the gap it leaves.
    if (this.#failure) return;
    this.#heard();
    this.#queue.push(event);
    this.#bytes += event.bytes;
    if (!this.#paused && this.#bytes > this.#options.maxBufferedBytes) this.#setPaused(true);
    this.#wake?.();
  }

  #onHeartbeat(position: Lsn, shouldRespond: boolean): void {
    this.#heard();
    this.#received = maxLsn(position, this.#received);
    if (shouldRespond) this.#sendStatus(false);
    if (this.#failure) return;
    const last = this.#queue.at(-1);
    if (last && 'position' in last && this.#queue.length - 1 >= this.#head) this.#queue[this.#queue.length - 1] = { bytes: 0, position };
    else this.#queue.push({ bytes: 0, position });
    this.#wake?.();
  }

  #heard(): void {
    this.#heardAt = performance.now();
    this.#heardSinceStatus = true;
  }

  /** While the socket is paused no request of the server can be seen, so it is told unasked. */
  #onTimer(): void {
    if (!this.#paused && performance.now() - this.#heardAt > this.#options.silenceLimitMs) {
      this.#fail(new DifyEsError('PG_UNREACHABLE', `PostgreSQL has been silent for ${Math.round(this.#options.silenceLimitMs / 1000)} s`));
      return;
    }
    this.#sendStatus(!this.#heardSinceStatus && !this.#paused);
    this.#heardSinceStatus = false;
  }

  /**
   * acknowledge() reports one more than it is given, and PostgreSQL skips a commit record that begins exactly there:
   * with P itself a neighbouring transaction would be lost, with P - 1 the server reads P.
   */
  #sendStatus(ping: boolean): void {
    if (this.#confirmed === undefined || this.#failure) return;
    void this.#service.acknowledge(formatLsn((this.#confirmed - 1n) as Lsn), ping);
  }

  #setPaused(paused: boolean): void {
    this.#paused = paused;
    // What lay in the paused socket is no silence of the server.
    this.#heardAt = performance.now();
    const stream = this.#client?.connection.stream;
    if (paused) stream?.pause();
    else stream?.resume();
  }

  /** What is buffered comes again on the next connection, so it is let go of at once. */
  #fail(error: DifyEsError): void {
    this.#failure ??= error;
    clearInterval(this.#timer);
    this.#queue = [];
    this.#head = 0;
    this.#bytes = 0;
    this.#wake?.();
  }
}

async function within(limitMs: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => (timer = setTimeout(resolve, limitMs)));
  await Promise.race([work.then(() => undefined, () => undefined), limit]);
  clearTimeout(timer);
}
