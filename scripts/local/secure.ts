import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generate } from 'selfsigned';
import { withLock } from './lock.ts';

/** What the servers of a secure instance share: one certificate for 127.0.0.1, the CA that signed it, one password. */
export interface Secrets {
  /** Path for the program. */
  readonly caFile: string;
  readonly ca: string;
  readonly cert: string;
  /** PKCS#8, PEM. */
  readonly key: string;
  readonly password: string;
}

const YEARS = 10;

/** The instance's secrets, made at first use and kept in `<dir>/tls`, which only its owner may enter. */
export async function secretsOf(dir: string): Promise<Secrets> {
  const folder = join(dir, 'tls');
  // The three servers start at the same time.
  await withLock(join(dir, 'run/tls.lock'), () => (existsSync(folder) ? Promise.resolve() : make(folder)));
  const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
  return { caFile: join(folder, 'ca.pem'), ca: read('ca.pem'), cert: read('server.pem'), key: read('server.key'), password: read('password') };
}

async function make(folder: string): Promise<void> {
  const notAfterDate = new Date();
  notAfterDate.setFullYear(notAfterDate.getFullYear() + YEARS);
  const common = { keyType: 'ec', algorithm: 'sha256', notAfterDate } as const;
  const ca = await generate([{ name: 'commonName', value: 'dify-es local CA' }], {
    ...common,
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  const server = await generate([{ name: 'commonName', value: 'localhost' }], {
    ...common,
    ca: { key: ca.private, cert: ca.cert },
    extensions: [
      { name: 'basicConstraints', cA: false },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      // Clients connect to the address, so the address has to be among the names.
      { name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }, { type: 7, ip: '127.0.0.1' }] },
    ],
  });
  const making = `${folder}.new`;
  rmSync(making, { recursive: true, force: true });
  mkdirSync(making, { recursive: true, mode: 0o700 });
  const files = { 'ca.pem': ca.cert, 'server.pem': server.cert, 'server.key': server.private, password: randomBytes(18).toString('base64url') };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(making, name), text, { mode: 0o600 });
  chmodSync(making, 0o700);
  renameSync(making, folder);
}
