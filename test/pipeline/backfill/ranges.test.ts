import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ChunkSizer } from '../../../src/pipeline/backfill/chunk-sizer.ts';
import { PageSet, takePages } from '../../../src/pipeline/backfill/page-set.ts';
import { nextChunk, segmentBlocks, segmentsOf } from '../../../src/pipeline/backfill/ranges.ts';
import { blockOf, offsetOf, rangeSql, type Tid, type TidRange, tidOf, tidText } from '../../../src/pipeline/backfill/tid.ts';

const OFFSETS = 291;
const pageSet = (blocks: number, members: readonly number[]): PageSet => {
  const set = new PageSet(blocks);
  for (const member of members) set.add(member);
  return set;
};

describe('tids', () => {
  test('the last page of the largest table keeps its number', () => {
    const tid = tidOf(2 ** 32 - 2, 65_535);
    expect([blockOf(tid), offsetOf(tid), tidText(tid)]).toEqual([4294967294, 65535, '(4294967294,65535)']);
    expect(rangeSql({ from: tidOf(3, 0), to: tidOf(9, 0) })).toBe("ctid >= '(3,0)' AND ctid < '(9,0)'");
  });
});

describe('segments', () => {
  test('cover every page once, whatever the size of the table', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200_000_000 }), (blocks) => {
        const segments = segmentsOf({ blocks, segmentBlocks: segmentBlocks(blocks) });
        let at = 0;
        for (const { from, to } of segments) {
          expect(from).toBe(at);
          expect(to).toBeGreaterThan(from);
          at = to;
        }
        expect(at).toBe(blocks);
      }),
    );
  });
});

describe('the pages of a filtered run', () => {
  test('are all read, each once, in ranges that a statement can take', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2000 }).chain((blocks) => fc.record({ blocks: fc.constant(blocks), members: fc.array(fc.integer({ min: 0, max: blocks - 1 }), { maxLength: 300 }), want: fc.integer({ min: 1, max: 200 }) })),
        ({ blocks, members, want }) => {
          const pages = pageSet(blocks, members);
          const read: number[] = [];
          for (let at = 0; at < blocks; ) {
            const { ranges, next } = takePages(pages, at, blocks, want);
            expect(next > at || next === blocks).toBe(true);
            expect(ranges.length).toBeLessThanOrEqual(32);
            for (const { from, to } of ranges) for (let block = blockOf(from); block < blockOf(to); block++) read.push(block);
            at = next;
          }
          expect(new Set(read).size).toBe(read.length);
          expect(read).toEqual([...read].sort((a, b) => a - b));
          for (const member of members) expect(read).toContain(member);
          expect(read.filter((block) => !pages.has(block)).length).toBeLessThanOrEqual(8 * new Set(members).size);
        },
      ),
    );
  });

  test('a page beyond the end of the table as it was counted is not taken', () => {
    const pages = pageSet(10, [3, 10, 4_000_000_000]);
    expect([pages.count, pages.next(0, 10), pages.next(4, 10)]).toEqual([1, 3, 10]);
  });
});

describe('the size of a chunk', () => {
  const goals = { rows: 1000, bytes: 8_000_000 };
  const sizer = (rowsPerBlock: number, bytesPerBlock: number): ChunkSizer => new ChunkSizer(goals, OFFSETS, { rowsPerBlock, bytesPerBlock });

  test('is near the batch size for narrow rows and near the bytes for wide ones', () => {
    expect(sizer(10, 10_000).blocks).toBe(100);
    expect(sizer(10, 400_000).blocks).toBe(20);
  });

  test('is corrected at once when there is more than expected, and grows slowly when there is less', () => {
    const one = sizer(10, 10_000);
    one.observe(100, 4000, 40_000_000);
    expect(one.blocks).toBe(20);
    one.observe(20, 10, 1000);
    expect(one.blocks).toBe(40);
    one.observe(40, 0, 0);
    expect(one.blocks).toBe(80);
  });

  test('never asks for more than 4096 pages, however empty they are', () => {
    const one = sizer(0, 0);
    for (let i = 0; i < 20; i++) one.observe(one.blocks, 0, 0);
    expect(one.blocks).toBe(4096);
  });

  test('goes below a page after overflows, down to a single line pointer', () => {
    const one = sizer(25, 8000);
    for (let i = 0; i < 3; i++) one.overflow(Math.max(one.blocks, 1));
    expect(one.blocks).toBe(0);
    expect(one.partEnd(tidOf(7, 0))).toBeLessThan(tidOf(8, 0));
    for (let i = 0; i < 5; i++) one.overflow(1);
    expect([one.smallest, one.partEnd(tidOf(7, 5)) - tidOf(7, 5)]).toEqual([true, 1]);
  });

  test('chunks cover every line pointer of a segment once, whatever the sizes do in between', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0.001, max: 9, noNaN: true }), { minLength: 1, maxLength: 30 }), fc.option(fc.array(fc.nat(11), { maxLength: 6 }), { nil: null }), (sizes, members) => {
        const pages = members && pageSet(12, members);
        const read: TidRange[] = [];
        let at: Tid = tidOf(2, 0);
        for (let i = 0; at < tidOf(12, 0); i++) {
          const blocks = sizes[i % sizes.length] as number;
          const one = new ChunkSizer({ rows: 1, bytes: Number.MAX_SAFE_INTEGER }, OFFSETS, { rowsPerBlock: 1 / blocks, bytesPerBlock: 1 });
          const next = nextChunk(at, 12, pages, one, OFFSETS);
          expect(next.next).toBeGreaterThan(at);
          read.push(...next.ranges);
          at = next.next;
        }
        expect(at).toBe(tidOf(12, 0));
        for (let block = 2; block < 12; block++) {
          for (const offset of [1, 2, 37, OFFSETS - 1, OFFSETS]) {
            const hits = read.filter(({ from, to }) => from <= tidOf(block, offset) && tidOf(block, offset) < to).length;
            if (!pages || pages.has(block)) expect(hits).toBe(1);
            else expect(hits).toBeLessThanOrEqual(1);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
