import { expect, it } from 'vitest';
import { Access, hostName, type Caller } from '../../../src/ops/console/access.ts';

const TOKEN = 'a-token-of-some-length';
const caller = (rest: Partial<Caller> = {}): Caller => ({ host: '127.0.0.1:9465', authorization: undefined, cookie: undefined, fetchSite: undefined, ...rest });

it('answers without a token by the names of this machine alone, whatever port was forwarded', () => {
  const open = new Access('');
  for (const host of ['127.0.0.1:9465', 'localhost:8080', '[::1]:9465', '127.0.0.1', 'LOCALHOST']) expect([host, open.judge(caller({ host }))]).toEqual([host, 'in']);
  // a name on the internet that points to 127.0.0.1, and what looks like ours
  for (const host of ['rebound.example:9465', 'localhost.example', '127.0.0.1.example', '10.0.0.5:9465', '', undefined]) expect([host, open.judge(caller({ host }))]).toEqual([host, 'foreign']);
});

it('does not answer a page of another site, also where it calls us by the right name', () => {
  expect(new Access('').judge(caller({ fetchSite: 'cross-site' }))).toBe('foreign');
  expect(new Access('').judge(caller({ fetchSite: 'same-origin' }))).toBe('in');
});

it('wants the token, or the cookie that it gave for it, by any name', () => {
  const access = new Access(TOKEN);
  const host = 'console.example';
  expect(access.judge(caller())).toBe('no-token');
  expect(access.judge(caller({ host, authorization: `Bearer ${TOKEN}` }))).toBe('in');
  for (const wrong of ['', 'x', `${TOKEN}x`, TOKEN.slice(1)]) expect(access.judge(caller({ authorization: `Bearer ${wrong}` }))).toBe('no-token');
  const cookie = access.cookie.split(';')[0]!;
  expect(access.judge(caller({ host, cookie: `other=1; ${cookie}` }))).toBe('in');
  expect(access.judge(caller({ cookie: `${cookie}x` }))).toBe('no-token');
  expect(access.judge(caller({ cookie: `dify_es_console=${TOKEN}` }))).toBe('no-token');
});

it('gives a cookie that no script reads, that no other site brings, that does not hold the token and ends with the process', () => {
  const [one, other] = [new Access(TOKEN).cookie, new Access(TOKEN).cookie];
  expect(one).toMatch(/; HttpOnly; SameSite=Strict$/);
  expect(one).not.toContain(TOKEN);
  expect(other).not.toBe(one);
});

it('takes the name out of a Host header', () => {
  expect(['[::1]:80', '[::1]', 'a:1', 'A.b', undefined].map(hostName)).toEqual(['::1', '::1', 'a', 'a.b', '']);
});
