import { readFileSync } from 'node:fs';
import type pg from 'pg';
import type { ElasticsearchAddress } from './elasticsearch.ts';

/** What the oracle needs to know of the servers, from the variables that Dify and the product read. */
export interface OracleSettings {
  readonly pg: pg.ClientConfig;
  readonly es: ElasticsearchAddress;
  readonly prefix: string;
}

/** Reads DB_* or DATABASE_URL and ELASTICSEARCH_*. Throws an Error that names the variable when a host list is none. */
export function settingsFrom(env: Readonly<Record<string, string | undefined>>): OracleSettings {
  const url = env['DATABASE_URL'];
  const ca = env['DB_SSL_CA'];
  return {
    pg: url
      ? { connectionString: url }
      : { ...(ca ? { ssl: { ca: readFileSync(ca, 'utf8') } } : {}), host: env['DB_HOST'] ?? 'localhost', port: Number(env['DB_PORT'] ?? 5432), user: env['DB_USERNAME'] ?? 'postgres', password: env['DB_PASSWORD'] ?? '', database: env['DB_DATABASE'] ?? 'dify' },
    es: {
      url: firstHost(env['ELASTICSEARCH_HOSTS'] ?? '["http://localhost:9200"]', isTrue(env['ELASTICSEARCH_USE_SSL'])),
      verify: !env['ELASTICSEARCH_VERIFY_CERTS'] || isTrue(env['ELASTICSEARCH_VERIFY_CERTS']),
      ...given('username', env['ELASTICSEARCH_USERNAME']), ...given('password', env['ELASTICSEARCH_PASSWORD']),
      ...given('apiKey', env['ELASTICSEARCH_API_KEY']), ...given('caFile', env['ELASTICSEARCH_CA_CERTS']),
    },
    prefix: env['ELASTICSEARCH_INDEX_PREFIX'] || 'dify',
  };
}

/** The first of `["http://a:9200", "http://b:9200"]`, with or without the quotes, which a shell eats. */
function firstHost(list: string, secure: boolean): string {
  const host = list.replace(/^\s*\[|\]\s*$/g, '').split(',')[0]?.trim().replace(/^["']|["']$/g, '');
  if (!host) throw new Error('ELASTICSEARCH_HOSTS names no host');
  return /^https?:\/\//.test(host) ? host : `${secure ? 'https' : 'http'}://${host}`;
}

function isTrue(text: string | undefined): boolean {
  return /^(true|1|yes|on)$/i.test(text ?? '');
}

function given<K extends string>(name: K, value: string | undefined): Partial<Record<K, string>> {
  return value ? ({ [name]: value } as Partial<Record<K, string>>) : {};
}
