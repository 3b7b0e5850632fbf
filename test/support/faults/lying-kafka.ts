import { createServer, connect, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

/** Of the protocol; a request is known by the first four bytes after its length. */
export const API = { produce: 0, fetch: 1, metadata: 3, offsetCommit: 8, heartbeat: 12, initProducerId: 22, addPartitionsToTxn: 24, endTxn: 26 } as const;
/** https://kafka.apache.org/protocol: error codes. */
export const ERROR = { leaderNotAvailable: 5, notLeader: 6 } as const;

/**
 * What is done to the answer of a request that the broker has carried out. `cut`: the connection ends instead. `hold`:
 * it is passed on when the promise resolves. `error`: a produce request's first partition is answered with that code.
 */
export type KafkaLie = { readonly kind: 'cut' } | { readonly kind: 'hold'; readonly until: Promise<unknown> } | { readonly kind: 'error'; readonly code: number };

/**
 * Returns the lie for a request of this kind, or undefined to pass its answer on. Asked once for each request.
 * `names` says whether a name stands in it: a transactional.id, a group or a topic, which tells whose request it is.
 */
export type KafkaLiar = (apiKey: number, names: (name: string) => boolean) => KafkaLie | undefined;

export interface LyingKafka {
  readonly port: number;
  /** From now on; undefined makes it honest. */
  lie(liar: KafkaLiar | undefined): void;
  close(): Promise<void>;
}

interface Awaited {
  readonly version: number;
  readonly lie: KafkaLie;
}

/**
 * A proxy in front of a real broker, which must advertise the proxy's port. It knows requests and answers by their
 * frames and headers only, so it serves any client and any version.
 */
export async function lyingKafka(broker: { readonly host: string; readonly port: number }): Promise<LyingKafka> {
  let liar: KafkaLiar | undefined;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(broker.port, broker.host);
    const lies = new Map<number, Awaited>();
    for (const [socket, other] of [[client, upstream], [upstream, client]] as const) {
      socket.setNoDelay(true);
      sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.once('close', () => (sockets.delete(socket), other.destroy()));
    }
    // Answers come in the order of the requests, also behind one that is held.
    let order: Promise<unknown> = Promise.resolve();
    frames(client, (frame) => {
      const lie = liar?.(frame.readInt16BE(4), (name) => frame.includes(name));
      if (lie) lies.set(frame.readInt32BE(8), { version: frame.readInt16BE(6), lie });
      upstream.write(frame);
    });
    frames(upstream, (frame) => {
      const told = lies.get(frame.readInt32BE(4));
      lies.delete(frame.readInt32BE(4));
      order = order.then(() => answer(client, frame, told));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    lie: (next) => void (liar = next),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

async function answer(client: Socket, frame: Buffer, told: Awaited | undefined): Promise<void> {
  if (told?.lie.kind === 'cut') return void client.destroy();
  if (told?.lie.kind === 'hold') await told.lie.until;
  if (told?.lie.kind === 'error') frame.writeInt16BE(told.lie.code, firstErrorOfProduce(frame, told.version));
  client.write(frame);
}

/** Calls back with each frame, its length of four bytes included; the bytes are the callee's. */
function frames(socket: Socket, onFrame: (frame: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 4 && rest.length >= 4 + rest.readInt32BE(0)) {
      const end = 4 + rest.readInt32BE(0);
      onFrame(Buffer.from(rest.subarray(0, end)));
      rest = rest.subarray(end);
    }
  });
}

/** Where the error code of the first partition is: after length, correlation id, topic (its name, from version 13 its id), index. */
function firstErrorOfProduce(frame: Buffer, version: number): number {
  let at = 8;
  if (version < 9) return at + 4 + 2 + frame.readInt16BE(at + 4) + 4 + 4;
  const varint = (): number => {
    for (let shift = 0, value = 0; ; shift += 7) {
      const byte = frame[at++]!;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  varint(); // tagged fields of the header
  varint(); // topics
  at += version >= 13 ? 16 : varint() - 1;
  varint(); // partitions
  return at + 4;
}
