import { expect, test } from 'vitest';
import { settingsFrom } from './settings.ts';

test('Dify\'s own variables name the servers', () => {
  const { pg, es, prefix } = settingsFrom({ DB_HOST: 'db', DB_PORT: '6543', DB_USERNAME: 'u', DB_PASSWORD: 'p', DB_DATABASE: 'd', ELASTICSEARCH_HOSTS: '["http://es:9200", "http://es2:9200"]', ELASTICSEARCH_USERNAME: 'elastic', ELASTICSEARCH_PASSWORD: 's', ELASTICSEARCH_INDEX_PREFIX: 'x' });
  expect(pg).toEqual({ host: 'db', port: 6543, user: 'u', password: 'p', database: 'd' });
  expect(es).toEqual({ url: 'http://es:9200', username: 'elastic', password: 's', verify: true });
  expect(prefix).toBe('x');
});

test.each([['[http://es:9200]', 'http://es:9200'], ["['es:9200']", 'http://es:9200'], ['es:9200', 'http://es:9200']])('the list of hosts %s is read', (list, url) => {
  expect(settingsFrom({ ELASTICSEARCH_HOSTS: list }).es.url).toBe(url);
});

test('a host without a scheme takes https when SSL is on', () => {
  expect(settingsFrom({ ELASTICSEARCH_HOSTS: '[es:9200]', ELASTICSEARCH_USE_SSL: 'true', ELASTICSEARCH_VERIFY_CERTS: 'false' }).es).toEqual({ url: 'https://es:9200', verify: false });
});

test('an empty list names the variable', () => {
  expect(() => settingsFrom({ ELASTICSEARCH_HOSTS: '[]' })).toThrow(/ELASTICSEARCH_HOSTS/);
});
