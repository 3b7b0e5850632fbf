import { createWriteStream } from 'node:fs';
import { createServer, request } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { finished } from 'node:stream/promises';

/** Stands between a sink and Elasticsearch and keeps every bulk, byte for byte. */
export interface Recorder {
  readonly url: string;
  close(): Promise<void>;
}

/** `file` gets the bodies one after the other. For a warm-up run only: nothing is measured through it. */
export async function startRecorder(elasticsearch: string, file: string): Promise<Recorder> {
  const out = createWriteStream(file);
  const server = createServer((asked, answered) => {
    const parts: Buffer[] = [];
    asked.on('data', (part: Buffer) => parts.push(part)).on('end', () => {
      const body = Buffer.concat(parts);
      const { host: _, ...headers } = asked.headers;
      const sent = request(`${elasticsearch}${asked.url}`, { method: asked.method ?? 'GET', headers }, (answer) => {
        if (asked.url?.startsWith('/_bulk') && answer.statusCode === 200) out.write(body);
        answered.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(answered);
      });
      sent.on('error', () => answered.destroy()).end(body);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      out.end();
      await finished(out);
    },
  };
}
