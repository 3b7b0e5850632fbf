import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { DifyEsError } from '../../../src/core/errors.ts';
import { lastOf, Look, type Pace } from '../../../src/ops/console/look.ts';
import { Rate } from '../../../src/ops/console/rates.ts';

const lookAt = <T>(read: () => Promise<T>, onSeen = () => {}) => new Look({ away: 'PG_UNREACHABLE', read, watchedMs: 1, restingMs: 60_000, onSeen });

it('keeps what it saw of a server that is away now, and since when it is away', async () => {
  let away = false;
  const look = lookAt(async () => {
    if (away) throw new DifyEsError('PG_UNREACHABLE', 'nobody there');
    return 7;
  });
  expect(look.seen.state).toBe('unseen');
  await look.once();
  expect(look.seen).toMatchObject({ state: 'seen', value: 7 });
  away = true;
  await look.once();
  const first = look.seen;
  await look.once();
  expect(look.seen).toMatchObject({ state: 'away', code: 'PG_UNREACHABLE', message: 'nobody there', last: { value: 7 } });
  expect(look.seen).toMatchObject({ since: first.state === 'away' ? first.since : 0 });
  expect(lastOf(look.seen)).toBe(7);
  away = false;
  await look.once();
  expect(look.seen).toMatchObject({ state: 'seen' });
});

it('looks at once when a page is opened, and does not wait for the pause of a time when nobody watched', async () => {
  let open = (): void => {};
  const stopping = new AbortController();
  const twice = Promise.withResolvers<void>();
  let [looks, watched] = [0, false];
  const pace: Pace = { watched: () => watched, onOpen: (listener) => ((open = listener), () => {}) };
  const running = lookAt(async () => ++looks, () => {
    if (looks === 1) {
      setImmediate(() => {
        watched = true;
        open();
      });
    }
    if (looks === 3) twice.resolve();
  }).run(pace, stopping.signal);
  await twice.promise;
  stopping.abort();
  await running;
  expect(looks).toBeGreaterThanOrEqual(3);
});

it('asks a server that did not answer again after the common pause, however long it waited in vain', async () => {
  const stopping = new AbortController();
  const twice = Promise.withResolvers<void>();
  const [began, ended]: [number[], number[]] = [[], []];
  const look = lookAt(async () => {
    began.push(performance.now());
    await sleep(400);
    ended.push(performance.now());
    throw new DifyEsError('PG_UNREACHABLE', 'nobody there');
  }, () => void (ended.length === 2 && twice.resolve()));
  const running = look.run({ watched: () => true, onOpen: () => () => {} }, stopping.signal);
  await twice.promise;
  stopping.abort();
  await running;
  // a look that is answered is followed by a pause of nine times as long
  expect(began[1]! - ended[0]!).toBeLessThan(ended[0]! - began[0]!);
});

it('gives the rate of the last seconds, none of a counter that has begun anew, and none over a long silence', () => {
  const rate = new Rate();
  expect(rate.perSecond).toBeNull();
  for (let at = 0; at <= 60_000; at += 2_000) rate.add(at < 40_000 ? at / 10 : 4_000 + (at - 40_000) / 2, at);
  expect(rate.perSecond).toBeCloseTo(500);
  rate.add(3, 62_000);
  expect(rate.perSecond).toBeNull();
  rate.add(5, 63_000);
  expect(rate.perSecond).toBe(2);
  rate.add(9_999, 200_000);
  expect(rate.perSecond).toBeNull();
});
