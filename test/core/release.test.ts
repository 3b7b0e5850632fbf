import { expect, it } from 'vitest';
import { release } from '../../src/core/release.ts';

it('gives the memory of a large buffer back at once, and empties all views of it', () => {
  const owned = Buffer.alloc(200_000, 7);
  const view = owned.subarray(100, 200);
  release(owned.subarray(0, 10));
  expect([owned.length, view.length]).toEqual([0, 0]);
});

it("leaves Node's pool alone, since others have views of it", () => {
  const [pooled, neighbour] = [Buffer.from('a row'), Buffer.from('another')];
  expect(pooled.buffer).toBe(neighbour.buffer);
  release(pooled);
  expect([pooled.toString(), neighbour.toString()]).toEqual(['a row', 'another']);
});

it('leaves memory alone that threads share', () => {
  const shared = Buffer.from(new SharedArrayBuffer(200_000));
  release(shared);
  expect(shared).toHaveLength(200_000);
});
