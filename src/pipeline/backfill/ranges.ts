import type { BackfillTable, SegmentProgress } from '../../core/state.ts';
import type { ChunkSizer } from './chunk-sizer.ts';
import { type PageSet, takePages } from './page-set.ts';
import { blockOf, offsetOf, type Tid, type TidRange, tidOf } from './tid.ts';

/** A part of a table that one worker reads from its first page to its last; `to` exclusive, in pages. */
export interface Segment {
  readonly index: number;
  readonly from: number;
  readonly to: number;
}

const SEGMENTS_PER_TABLE = 64;
const LEAST_SEGMENT = 128;
const MOST_SEGMENT = 65_536;

/** Pages of a segment: enough segments that no worker waits long for the last one, few enough keys on the control topic. */
export function segmentBlocks(blocks: number): number {
  return Math.min(MOST_SEGMENT, Math.max(LEAST_SEGMENT, Math.ceil(blocks / SEGMENTS_PER_TABLE)));
}

export function segmentsOf(plan: Pick<BackfillTable, 'blocks' | 'segmentBlocks'>): Segment[] {
  const count = Math.ceil(plan.blocks / plan.segmentBlocks);
  return Array.from({ length: count }, (_, index) => ({ index, from: index * plan.segmentBlocks, to: Math.min(plan.blocks, (index + 1) * plan.segmentBlocks) }));
}

/** A segment with what is left of it. */
export interface OpenSegment {
  readonly segment: Segment;
  readonly progress: SegmentProgress;
}

export function freshProgress(segment: Segment): SegmentProgress {
  return { nextBlock: segment.from, done: false, rows: 0, bytes: 0 };
}

/** What the next chunk reads. `next`: where the one after it begins; `blocks`: pages read, a fraction for a part of one. */
export interface NextChunk {
  readonly ranges: readonly TidRange[];
  readonly next: Tid;
  readonly blocks: number;
}

/** Pure. No ranges: nothing is left before `endBlock`. */
export function nextChunk(from: Tid, endBlock: number, pages: PageSet | null, sizer: Pick<ChunkSizer, 'blocks' | 'partEnd'>, offsetsPerBlock: number): NextChunk {
  const inPage = offsetOf(from) > 0;
  if (sizer.blocks >= 1 && !inPage) {
    const { ranges, next } = takePages(pages, blockOf(from), endBlock, sizer.blocks);
    return { ranges, next: tidOf(next, 0), blocks: ranges.reduce((sum, range) => sum + blockOf(range.to) - blockOf(range.from), 0) };
  }
  // A page begun in parts is finished first; a part never crosses its page.
  const block = inPage ? blockOf(from) : (pages?.next(blockOf(from), endBlock) ?? blockOf(from));
  if (block >= endBlock) return { ranges: [], next: tidOf(endBlock, 0), blocks: 0 };
  const start = inPage ? from : tidOf(block, 0);
  const to = sizer.blocks >= 1 ? tidOf(block + 1, 0) : sizer.partEnd(start);
  const offsets = Math.min(offsetsPerBlock, blockOf(to) > block ? offsetsPerBlock : offsetOf(to)) - offsetOf(start);
  return { ranges: [{ from: start, to }], next: to, blocks: Math.max(1, offsets) / offsetsPerBlock };
}
