import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Interrupted } from '../../../src/pipeline/sink/patience.ts';
import { Slots } from '../../../src/pipeline/sink/slots.ts';

const never = new AbortController().signal;

/** Work that ends when it is told to. */
function held(slots: Slots, signal = never): { readonly begun: () => boolean; end(): void; readonly done: Promise<void> } {
  const ended = Promise.withResolvers<void>();
  let begun = false;
  const done = slots.hold(signal, () => {
    begun = true;
    return ended.promise;
  });
  return { begun: () => begun, end: () => ended.resolve(), done };
}

test('no more are at work than there are slots, and those who wait follow in their order', async () => {
  const slots = new Slots(2);
  const all = [held(slots), held(slots), held(slots), held(slots)];
  await turn();
  expect(all.map(({ begun }) => begun())).toStrictEqual([true, true, false, false]);
  all[1]!.end();
  await all[1]!.done;
  await turn();
  expect(all.map(({ begun }) => begun())).toStrictEqual([true, true, true, false]);
  all[0]!.end();
  all[2]!.end();
  all[3]!.end();
  await Promise.all(all.map(({ done }) => done));
});

test('a slot comes back from work that fails', async () => {
  const slots = new Slots(1);
  await expect(slots.hold(never, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  await expect(slots.hold(never, () => Promise.resolve('yes'))).resolves.toBe('yes');
});

test('who is interrupted while it waits never begins, and takes no slot from the next', async () => {
  const slots = new Slots(1);
  const first = held(slots);
  const stop = new AbortController();
  const second = held(slots, stop.signal);
  const third = held(slots);
  stop.abort();
  await expect(second.done).rejects.toThrow(Interrupted);
  first.end();
  await first.done;
  third.end();
  await third.done;
  expect([second.begun(), third.begun()]).toStrictEqual([false, true]);
  await expect(slots.hold(stop.signal, () => Promise.resolve())).rejects.toThrow(Interrupted);
});
