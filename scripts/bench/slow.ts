import { once } from 'node:events';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** Stands before Elasticsearch and holds the answer to each bulk back, as a far or a busy cluster does. */
export interface SlowElasticsearch {
  readonly url: string;
  close(): void;
}

/** Its CPU is the bench's own, and the same for raw `_bulk` and the pipeline, which both go through it. */
export async function startSlow(elasticsearch: string, delayMs: number): Promise<SlowElasticsearch> {
  const server = createServer((asked, answered) => {
    const { host: _, ...headers } = asked.headers;
    const sent = request(`${elasticsearch}${asked.url}`, { method: asked.method ?? 'GET', headers }, async (answer) => {
      if (asked.url?.startsWith('/_bulk')) await sleep(delayMs);
      answered.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(answered);
    });
    asked.pipe(sent.on('error', () => answered.destroy()));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
