import { pino } from 'pino';
import { expect, test } from 'vitest';
import { readCommandLine } from '../../src/cli/command-line.ts';
import { createOutput } from '../../src/cli/output.ts';
import { VERBS } from '../../src/cli/verbs.ts';
import { listenExpired, type Expired } from '../support/expired.ts';

/** The other ways in which TLS and passwords can be wrong need whole servers: test/secure.smoke.test.ts. */
test.each<[server: string, line: string[], protocol: 'tls' | 'postgres', code: string, env: (expired: Expired) => Record<string, string>]>([
  ['PostgreSQL', ['migrate', '--dry-run'], 'postgres', 'PG_TLS', ({ port, caFile }) => ({ DB_HOST: '127.0.0.1', DB_PORT: String(port), DB_SSL_MODE: 'verify-full', DB_SSL_CA: caFile })],
  ['Elasticsearch', ['search', 'word'], 'tls', 'ES_TLS', ({ port, caFile }) => ({ ELASTICSEARCH_HOSTS: `https://127.0.0.1:${port}`, ELASTICSEARCH_CA_CERTS: caFile })],
])('an expired certificate of %s is said to be one, with exit 2', async (_server, line, protocol, code, env) => {
  const expired = await listenExpired(protocol);
  const { verb, config, options } = readCommandLine(line, () => env(expired), VERBS)!;
  const context = { config, out: createOutput(false, () => {}), log: pino({ level: 'silent' }), signal: new AbortController().signal };
  const message = expect.stringMatching(/certificate has expired|CERT_HAS_EXPIRED/) as unknown;
  await expect(verb.run(context, options)).rejects.toMatchObject({ code, exitCode: 2, message });
  expired.close();
});
