import { setTimeout as sleep } from 'node:timers/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Client } from '@elastic/elasticsearch';
import type { Logger } from 'pino';
import { DifyEsError } from '../../core/errors.ts';
import { readRun, readWhole } from '../search/run-detail.ts';
import { searchRuns } from '../search/search.ts';
import { Access } from './access.ts';
import { loadAssets, type Asset } from './assets.ts';
import type { Live } from './live.ts';
import { placeOf, searchRequest } from './requests.ts';

export interface ConsoleServerOptions {
  readonly host: string;
  readonly port: number;
  /** Empty: none is asked for. */
  readonly token: string;
  readonly live: Live;
  readonly client: Client;
  readonly indexPrefix: string;
  readonly log: Logger;
}

export interface ConsoleServer {
  readonly url: string;
  close(): Promise<void>;
}

/** Everything comes from here and nothing runs that is not a file of the page: text of other people stays text. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "font-src 'self'", "img-src 'self'", "connect-src 'self'", "form-action 'self'",
  "base-uri 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
].join('; ');

const HEADERS = {
  'content-security-policy': CONTENT_SECURITY_POLICY,
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
} as const;

/** Within it a server has answered, or it is away. */
const LIMIT_MS = 20_000;
/** A wrong token costs time. */
const WRONG_TOKEN_MS = 500;
const LONGEST_FORM = 4_096;

/** Serves the page. Throws CONFIG_INVALID when the address cannot be had. */
export async function serveConsole(options: ConsoleServerOptions): Promise<ConsoleServer> {
  const { host, port, log } = options;
  const pages = new Pages(options);
  const server = createServer((request, response) => {
    pages.answer(request, response).catch((error: unknown) => {
      log.warn({ reason: error instanceof Error ? error.name : 'unknown' }, 'the console could not answer');
      if (!response.headersSent) plain(response, 500, 'this is a fault of the program\n');
      else response.destroy();
    });
  });
  await listen(server, host, port);
  const { port: given } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${given}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(new DifyEsError('CONFIG_INVALID', `CONSOLE_HOST and CONSOLE_PORT: cannot listen on ${host}:${port} (${error.code ?? error.name})`)));
    server.listen(port, host, resolve);
  });
  // what comes later (a connection that breaks) is the asker's trouble
  server.on('error', () => undefined);
}

class Pages {
  readonly #options: ConsoleServerOptions;
  readonly #access: Access;
  readonly #assets: ReadonlyMap<string, Asset>;

  constructor(options: ConsoleServerOptions) {
    this.#options = options;
    this.#access = new Access(options.token);
    this.#assets = loadAssets();
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    const url = new URL(request.url ?? '/', 'http://console');
    const { host, authorization, cookie } = request.headers;
    const fetchSite = request.headers['sec-fetch-site'];
    const verdict = this.#access.judge({ host, authorization, cookie, fetchSite: url.pathname.startsWith('/api/') && typeof fetchSite === 'string' ? fetchSite : undefined });
    if (verdict === 'foreign') return plain(response, 403, 'The console answers on this machine alone, by the name localhost or its loopback address. Set CONSOLE_TOKEN to use it by another name.\n');
    if (request.method === 'POST' && url.pathname === '/login') return await this.#login(request, response);
    if (request.method !== 'GET' && request.method !== 'HEAD') return plain(response, 405, 'GET only\n');
    if (url.pathname.startsWith('/api/')) return verdict === 'in' ? await this.#api(url, response) : json(response, 401, { error: { code: 'NO_TOKEN', message: 'the token is missing', cure: 'Open the console again and give its token.' } });
    if (url.pathname === '/' && verdict === 'no-token') return this.#send(request, response, '/login.html', 401);
    this.#send(request, response, url.pathname);
  }

  async #api({ pathname, searchParams }: URL, response: ServerResponse): Promise<void> {
    const { live, client, indexPrefix: prefix } = this.#options;
    if (pathname === '/api/live') {
      if (!live.open(response)) plain(response, 503, 'too many pages are open\n');
      return;
    }
    if (pathname === '/api/ping') {
      response.writeHead(204, { 'cache-control': 'no-store' });
      response.end();
      return;
    }
    const place = placeOf(searchParams);
    const signal = AbortSignal.timeout(LIMIT_MS);
    switch (pathname) {
      case '/api/search': {
        const request = searchRequest(searchParams);
        if (typeof request === 'string') return json(response, 400, { error: { code: 'USAGE', message: request, cure: 'Change what is searched for.' } });
        return await this.#found(response, () => searchRuns(client, prefix, request));
      }
      case '/api/run': return await this.#found(response, async () => place && (await readRun(client, prefix, place, signal)));
      case '/api/node': return await this.#found(response, async () => place && (await readWhole(client, prefix, 'workflow_node_executions', place, signal)));
      default: return json(response, 404, NOT_FOUND);
    }
  }

  async #found(response: ServerResponse, find: () => Promise<unknown>): Promise<void> {
    try {
      const found = await find();
      json(response, found === null ? 404 : 200, found ?? NOT_FOUND);
    } catch (error) {
      const known = error instanceof DifyEsError ? error : new DifyEsError('ES_UNREACHABLE', 'Elasticsearch did not answer in time');
      if (known.code === 'INTERNAL') this.#options.log.warn({ reason: known.message }, 'the console could not answer');
      json(response, known.exitCode === 3 ? 503 : 502, { error: { code: known.code, message: known.message, cure: known.cure } });
    }
  }

  async #login(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.headers['sec-fetch-site'] === 'cross-site') return plain(response, 403, 'this form belongs to the console\n');
    const form = await body(request);
    if (form !== null && this.#access.isToken(new URLSearchParams(form).get('token') ?? '')) {
      response.writeHead(303, { location: './', 'set-cookie': this.#access.cookie, 'cache-control': 'no-store' });
      response.end();
      return;
    }
    this.#options.log.warn('a wrong token was given to the console');
    await sleep(WRONG_TOKEN_MS, undefined, { ref: false });
    this.#send(request, response, '/login-again.html', 401);
  }

  #send(request: IncomingMessage, response: ServerResponse, path: string, status = 200): void {
    const asset = this.#assets.get(path);
    if (!asset) return plain(response, 404, 'there is no such page\n');
    if (status === 200 && request.headers['if-none-match'] === asset.etag) {
      response.writeHead(304, { etag: asset.etag });
      response.end();
      return;
    }
    const packed = asset.gzip !== null && /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? '')) ? asset.gzip : null;
    const sent = packed ?? asset.body;
    response.writeHead(status, {
      'content-type': asset.type, 'content-length': sent.length, vary: 'accept-encoding',
      ...(packed ? { 'content-encoding': 'gzip' } : {}),
      ...(status === 200 ? { etag: asset.etag, 'cache-control': 'no-cache' } : { 'cache-control': 'no-store' }),
    });
    response.end(request.method === 'HEAD' ? undefined : sent);
  }
}

const NOT_FOUND = { error: { code: 'NOT_FOUND', message: 'there is no such document', cure: 'It may have been dropped or moved to another month: search again.' } };

function plain(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' });
  response.end(text);
}

function json(response: ServerResponse, status: number, data: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' });
  response.end(JSON.stringify(data));
}

/** Null when it is longer than any token. */
async function body(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > LONGEST_FORM) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
