import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { generate } from 'selfsigned';

const DAY_MS = 86_400_000;

/** A port with a certificate that was valid until yesterday, and the CA that signed it: whoever trusts that CA sees only the date. */
export interface Expired {
  readonly port: number;
  readonly caFile: string;
  close(): void;
}

/** `postgres`: TLS begins behind PostgreSQL's SSLRequest, eight bytes that are answered with S. */
export async function listenExpired(protocol: 'tls' | 'postgres'): Promise<Expired> {
  const dates = { notBeforeDate: new Date(Date.now() - 10 * DAY_MS), notAfterDate: new Date(Date.now() + 10 * DAY_MS) };
  const common = { keyType: 'ec', algorithm: 'sha256' } as const;
  const ca = await generate([{ name: 'commonName', value: 'expired CA' }], { ...common, ...dates, extensions: [{ name: 'basicConstraints', cA: true, critical: true }, { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true }] });
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }], {
    ...common, ...dates, notAfterDate: new Date(Date.now() - DAY_MS), ca: { key: ca.private, cert: ca.cert },
    extensions: [{ name: 'basicConstraints', cA: false }, { name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }, { type: 7, ip: '127.0.0.1' }] }],
  });
  const secure = tls.createServer({ cert, key }, (socket) => void socket.on('error', () => undefined).destroy()).on('tlsClientError', () => undefined);
  const server = protocol === 'tls' ? secure : net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.write('S', () => secure.emit('connection', socket)));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const caFile = join(mkdtempSync(join(tmpdir(), 'dify-es-expired-')), 'ca.pem');
  writeFileSync(caFile, ca.cert);
  return { port: (server.address() as AddressInfo).port, caFile, close: () => void server.close() };
}
