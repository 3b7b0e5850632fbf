import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

/** A file of the page as it is sent: read, compressed and named once at start. */
export interface Asset {
  readonly type: string;
  readonly body: Buffer;
  /** Null where compression brings nothing. */
  readonly gzip: Buffer | null;
  readonly etag: string;
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
};

/** The page's files by path, `/` being index.html. Written by hand as they are: there is no build. */
export function loadAssets(): ReadonlyMap<string, Asset> {
  const folder = join(import.meta.dirname, 'page');
  const assets = new Map(readdirSync(folder).filter((name) => TYPES[extname(name)] !== undefined).map((name) => [`/${name}`, asset(join(folder, name))]));
  assets.set('/', assets.get('/index.html')!);
  assets.set('/login-again.html', assetOf('.html', Buffer.from(assets.get('/login.html')!.body.toString('utf8').replace(' role="alert" hidden>', ' role="alert">'))));
  assets.set('/inter.woff2', asset(fileURLToPath(import.meta.resolve('@fontsource-variable/inter/files/inter-latin-wght-normal.woff2'))));
  return assets;
}

const asset = (path: string): Asset => assetOf(extname(path), readFileSync(path));

function assetOf(extension: string, body: Buffer): Asset {
  const packed = gzipSync(body, { level: 9 });
  return { type: TYPES[extension]!, body, gzip: packed.length < body.length * 0.9 ? packed : null, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"` };
}
