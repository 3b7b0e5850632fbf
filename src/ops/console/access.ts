import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { isLoopback } from '../../config/config.ts';

/** What a request brings that tells whether it may be answered. */
export interface Caller {
  readonly host: string | undefined;
  /** `Authorization: Bearer …`, for scripts. */
  readonly authorization: string | undefined;
  readonly cookie: string | undefined;
  /** `Sec-Fetch-Site`, as browsers send it; a page of another origin cannot change it. */
  readonly fetchSite: string | undefined;
}

export type Verdict = 'in' | 'foreign' | 'no-token';

const COOKIE = 'dify_es_console';

/**
 * Who may read the console. Without a token only this machine reaches it, and then the name it was called by counts: a
 * page on the internet may let its own name point to 127.0.0.1 (DNS rebinding), and its browser would read for it. With
 * a token that page has neither token nor cookie, so any name will do, also that of a proxy.
 */
export class Access {
  readonly #tokenHash: Buffer | null;
  /** A cookie proves the token without holding it, and is void after a restart. */
  readonly #session: string;

  /** `token` empty: none is asked for. */
  constructor(token: string) {
    this.#tokenHash = token === '' ? null : hash(token);
    this.#session = createHmac('sha256', randomBytes(32)).update(token).digest('base64url');
  }

  judge({ host, authorization, cookie, fetchSite }: Caller): Verdict {
    if (this.#tokenHash === null) return isLoopback(hostName(host)) && fetchSite !== 'cross-site' ? 'in' : 'foreign';
    const bearer = /^Bearer (.+)$/.exec(authorization ?? '')?.[1];
    if (bearer !== undefined) return this.isToken(bearer) ? 'in' : 'no-token';
    return same(hash(sessionOf(cookie)), hash(this.#session)) ? 'in' : 'no-token';
  }

  /** In a time that says nothing of how much was right. */
  isToken(text: string): boolean {
    return this.#tokenHash !== null && same(hash(text), this.#tokenHash);
  }

  /** HttpOnly: no script reads it. Strict: no link from elsewhere brings it. Not Secure: the program itself speaks no TLS. */
  get cookie(): string {
    return `${COOKIE}=${this.#session}; Path=/; HttpOnly; SameSite=Strict`;
  }
}

/** Equal lengths for timingSafeEqual, whatever was sent. */
function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

const same = (a: Buffer, b: Buffer): boolean => timingSafeEqual(a, b);

function sessionOf(cookie: string | undefined): string {
  for (const part of (cookie ?? '').split(';')) {
    const [name, value] = part.trim().split('=', 2);
    if (name === COOKIE) return value ?? '';
  }
  return '';
}

/** The name in a Host header without its port: a forwarded port is another one, and says nothing. */
export function hostName(host: string | undefined): string {
  return (host ?? '').toLowerCase().replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
}
