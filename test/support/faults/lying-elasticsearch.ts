import { Agent, createServer, request as forward } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** One operation of a bulk as it came in. */
export interface BulkOperation {
  readonly verb: string;
  readonly index: string;
  readonly id: string;
}

/**
 * What is done to a request instead of passing it on.
 *
 * `answer`: not carried out, answered like this. `items`: the operations for which it returns something are not carried
 * out and answered with that, the others are. `cut`: carried out, and the connection ends instead of an answer. `tear`:
 * carried out, and half an answer. `hold`: carried out, and answered when the promise resolves. `stall`: passed on only
 * when the promise resolves.
 */
export type Lie =
  | { readonly kind: 'answer'; readonly status: number; readonly body: unknown }
  | { readonly kind: 'items'; readonly of: (operation: BulkOperation) => { readonly status: number; readonly type: string } | undefined }
  | { readonly kind: 'cut' }
  | { readonly kind: 'tear' }
  | { readonly kind: 'hold'; readonly until: Promise<unknown> }
  | { readonly kind: 'stall'; readonly until: Promise<unknown> };

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly bytes: number;
  readonly operations: readonly BulkOperation[];
}

/** Returns the lie for a request, or undefined to pass it on. */
export type Liar = (seen: SeenRequest) => Lie | undefined;

export interface LyingElasticsearch {
  readonly url: string;
  /** All requests so far, lies included. */
  readonly requests: SeenRequest[];
  /** How many lies were told. A test asserts on it: a lie that nobody heard proves nothing. */
  readonly told: number;
  /** From now on; undefined makes it honest. */
  lie(liar: Liar | undefined): void;
  /** Resolves when that many requests for which `which` holds have come in since the start. */
  seen(count: number, which?: (seen: SeenRequest) => boolean): Promise<void>;
  /** Resolves when nothing that came in so far is still being passed on. */
  idle(): Promise<void>;
  close(): Promise<void>;
}

/** A proxy in front of a real Elasticsearch that answers as networks, proxies and overloaded nodes do. */
export async function lyingElasticsearch(target: string, port = 0): Promise<LyingElasticsearch> {
  const requests: SeenRequest[] = [];
  const watchers = new Set<() => void>();
  const underWay = new Set<Promise<void>>();
  let liar: Liar | undefined;
  let told = 0;

  const server = createServer((incoming, outgoing) => {
    const work = (async () => {
      const body = await bodyOf(incoming);
      const seen = describe(incoming, body);
      const lie = liar?.(seen);
      if (lie) told++;
      requests.push(seen);
      for (const watcher of watchers) watcher();
      await carryOut(target, incoming, body, outgoing, lie);
    })().catch(() => void outgoing.destroy());
    underWay.add(work);
    void work.then(() => underWay.delete(work));
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    get told() {
      return told;
    },
    lie(next) {
      liar = next;
    },
    seen: (count, which = () => true) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (requests.filter(which).length < count) return;
          watchers.delete(look);
          resolve();
        };
        watchers.add(look);
        look();
      }),
    idle: async () => void (await Promise.all(underWay)),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export const isBulk = (seen: SeenRequest): boolean => seen.path.startsWith('/_bulk');

async function carryOut(target: string, incoming: IncomingMessage, body: Buffer, outgoing: ServerResponse, lie: Lie | undefined): Promise<void> {
  if (lie?.kind === 'answer') return answer(outgoing, lie.status, lie.body);
  if (lie?.kind === 'items') return answerItems(target, incoming, body, outgoing, lie.of);
  if (lie?.kind === 'stall') await lie.until;
  const real = await pass(target, incoming, body);
  if (lie?.kind === 'cut') return void outgoing.destroy();
  if (lie?.kind === 'hold') await lie.until;
  const { connection: _, ...headers } = real.headers;
  outgoing.writeHead(real.status, headers);
  if (lie?.kind !== 'tear') return void outgoing.end(real.body);
  outgoing.write(real.body.subarray(0, real.body.length / 2));
  setImmediate(() => outgoing.destroy());
}

/** The refused operations are taken out of the body, and their answers put among the real ones. */
async function answerItems(target: string, incoming: IncomingMessage, body: Buffer, outgoing: ServerResponse, of: (operation: BulkOperation) => { status: number; type: string } | undefined): Promise<void> {
  const parts = split(body);
  const lies = parts.map(({ operation }) => of(operation));
  const honest = Buffer.concat(parts.filter((_, at) => !lies[at]).map(({ bytes }) => bytes));
  const real = honest.length === 0 ? [] : (JSON.parse((await pass(target, incoming, honest)).body.toString()) as { items: unknown[] }).items;
  const items = parts.map(({ operation }, at) => {
    const lie = lies[at];
    return lie ? { [operation.verb]: { status: lie.status, error: { type: lie.type, reason: 'a lie' } } } : real.shift();
  });
  answer(outgoing, 200, { errors: true, items });
}

function answer(outgoing: ServerResponse, status: number, body: unknown): void {
  outgoing.writeHead(status, { 'content-type': typeof body === 'string' ? 'text/html' : 'application/json', 'x-elastic-product': 'Elasticsearch' });
  outgoing.end(typeof body === 'string' ? body : JSON.stringify(body));
}

/** A kept connection that the server closes at the moment of its reuse would be a lie that nobody ordered. */
const FRESH = new Agent({ keepAlive: false });

function pass(target: string, incoming: IncomingMessage, body: Buffer): Promise<{ status: number; headers: IncomingHttpHeaders; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const headers = { ...incoming.headers, host: new URL(target).host, connection: 'close', 'content-length': String(body.length) };
    const outgoing = forward(new URL(incoming.url ?? '/', target), { method: incoming.method, headers, agent: FRESH }, (response) => {
      bodyOf(response).then((answered) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: answered }), reject);
    });
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function describe(incoming: IncomingMessage, body: Buffer): SeenRequest {
  const seen = { method: incoming.method ?? '', path: incoming.url ?? '', bytes: body.length };
  return { ...seen, operations: seen.path.startsWith('/_bulk') ? split(body).map(({ operation }) => operation) : [] };
}

/** A bulk body into its operations, each with its bytes. */
function split(body: Buffer): { operation: BulkOperation; bytes: Buffer }[] {
  const parts: { operation: BulkOperation; bytes: Buffer }[] = [];
  for (let at = 0; at < body.length; ) {
    let end = body.indexOf(0x0a, at) + 1;
    const [verb, action] = Object.entries(JSON.parse(body.toString('utf8', at, end)) as Record<string, { _index: string; _id: string }>)[0]!;
    if (verb !== 'delete') end = body.indexOf(0x0a, end) + 1;
    parts.push({ operation: { verb, index: action._index, id: action._id }, bytes: body.subarray(at, end) });
    at = end;
  }
  return parts;
}
