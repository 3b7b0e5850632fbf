import { describe, expect, it } from 'vitest';
import { allOptions } from '../../src/config/options.ts';
import { namesFor } from './servers.ts';

const SERVERS = { DB_HOST: '127.0.0.1', DB_PORT: '5432', DB_USERNAME: 'postgres', DB_PASSWORD: 'a b/c', DB_DATABASE: 'dify', KAFKA_BROKERS: 'a:1,b:2', ELASTICSEARCH_HOSTS: '["http://a:9200"]' };
const LONG = '/checkout/test/pipeline/backfill/A very long name, with ümlauts and more than sixty characters.e2e.test.ts';

describe('the names of a test file', () => {
  it('are legal for every server, whatever the file is called', () => {
    const { env } = namesFor(LONG, 'abc123', SERVERS);
    for (const { option } of allOptions()) {
      const value = env[option.env];
      if (value !== undefined) expect(option.type.safeParse(value).success, `${option.env}=${value}`).toBe(true);
    }
  });

  it('differ from run to run', () => {
    expect(namesFor(LONG, 'abc123', SERVERS).slot).not.toBe(namesFor(LONG, 'abc124', SERVERS).slot);
  });

  it('give addresses that clients take as they are', () => {
    const here = namesFor('test/a.e2e.test.ts', 'x', SERVERS);
    expect(here.postgresUrl).toBe('postgres://postgres:a%20b%2Fc@127.0.0.1:5432/t_a_x');
    expect(here.brokers).toEqual(['a:1', 'b:2']);
    expect(here.elasticsearchUrl).toBe('http://a:9200');
  });

  it('say which suffix is missing when the server was not started', () => {
    const here = namesFor('test/a.pg.test.ts', 'x', { DB_HOST: '127.0.0.1' });
    expect(() => here.brokers).toThrow('a.pg.test.ts uses a server that was not started for it (KAFKA_BROKERS is missing): give it the suffix of its server, or .e2e for all');
  });
});
