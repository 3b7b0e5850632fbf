import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { DifyEsError } from '../../core/errors.ts';
import type { Health } from './health.ts';

export interface TelemetryServer {
  /** The one asked for, or what the system gave for 0. */
  readonly port: number;
  close(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

const TEXT = 'text/plain; charset=utf-8';

/** Serves /metrics, /healthz and /readyz. Throws CONFIG_INVALID when the address cannot be had. */
export async function serveTelemetry(host: string, port: number, registry: Registry, health: Health): Promise<TelemetryServer> {
  const server = createServer((request, response) => {
    answer(request, registry, health).then(
      (one) => send(request, response, one),
      () => send(request, response, { status: 500, type: TEXT, body: 'the metrics could not be collected\n' }),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(new DifyEsError('CONFIG_INVALID', `METRICS_HOST and METRICS_PORT: cannot listen on ${host}:${port} (${error.code ?? error.name})`, { cause: error })));
    server.listen(port, host, resolve);
  });
  // what comes later (a connection that breaks) is the asker's trouble and must not end a reader
  server.on('error', () => undefined);
  server.unref();
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        // a scraper keeps its connection open, and would hold the end of the process up
        server.closeAllConnections();
      }),
  };
}

/** Somebody listens there already; any other fault is one of METRICS_HOST. */
export function isTaken(error: unknown): boolean {
  return error instanceof DifyEsError && (error.cause as NodeJS.ErrnoException | undefined)?.code === 'EADDRINUSE';
}

async function answer({ method, url }: IncomingMessage, registry: Registry, health: Health): Promise<Answer> {
  if (method !== 'GET' && method !== 'HEAD') return { status: 405, type: TEXT, body: 'GET only\n' };
  switch ((url ?? '').split('?')[0]) {
    case '/metrics': return { status: 200, type: registry.contentType, body: await registry.metrics() };
    case '/healthz': return { status: 200, type: TEXT, body: 'alive\n' };
    case '/readyz': return { status: health.ready ? 200 : 503, type: 'application/json', body: `${JSON.stringify({ ready: health.ready, parts: Object.fromEntries(health.parts) })}\n` };
    default: return { status: 404, type: TEXT, body: 'here are /metrics, /healthz and /readyz\n' };
  }
}

function send({ method }: IncomingMessage, response: ServerResponse, { status, type, body }: Answer): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body), 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
  response.end(method === 'HEAD' ? undefined : body);
}
