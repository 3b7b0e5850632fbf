const SSL_MODES = ['disable', 'require', 'verify-full'] as const;

/** What a URL says; what it leaves out is absent and comes from the five variables. */
export interface DatabaseUrl {
  readonly host?: string;
  readonly port?: number;
  readonly username?: string;
  readonly password?: string;
  readonly database?: string;
  readonly sslMode?: (typeof SSL_MODES)[number];
}

/**
 * `postgres://user:password@host:port/database?sslmode=require`, also as SQLAlchemy writes it (`postgresql+psycopg2://`).
 * A text says what is wrong, without any part of the URL, since a password is in it.
 */
export function parseDatabaseUrl(text: string): DatabaseUrl | string {
  const url = /^postgres(ql)?(\+\w+)?:\/\//.test(text) ? URL.parse(text) : null;
  if (!url) return 'is no URL like postgres://user:password@host:5432/dify';
  const [username, password, database] = [url.username, url.password, url.pathname.slice(1)].map(decoded);
  if (username === null || password === null || database === null) return 'has a % that is followed by no two hex digits: write %25 for a % in the password';
  const sslMode = url.searchParams.get('sslmode');
  const unknown = [...url.searchParams.keys()].filter((name) => name !== 'sslmode');
  if (unknown.length > 0) return `has parameters that are not known here: ${unknown.join(', ')}`;
  if (sslMode !== null && !isSslMode(sslMode)) return `has an sslmode that is none of ${SSL_MODES.join(', ')}`;
  return {
    // an IPv6 address stands in brackets only inside a URL
    ...(url.hostname ? { host: url.hostname.replace(/^\[|\]$/g, '') } : {}),
    ...(url.port ? { port: Number(url.port) } : {}),
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    ...(database ? { database } : {}),
    ...(sslMode === null ? {} : { sslMode }),
  };
}

function isSslMode(text: string): text is (typeof SSL_MODES)[number] {
  return (SSL_MODES as readonly string[]).includes(text);
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
