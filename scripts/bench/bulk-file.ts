import { createReadStream } from 'node:fs';

/** A part of the file that is one bulk. */
export interface Cut {
  readonly start: number;
  readonly end: number;
  readonly items: number;
}

const LINE_BREAK = 0x0a;

/**
 * Cuts a file of bulk items (an action line and a document line each) into bulks of about so many bytes. An item is
 * added until the size is reached, as the pipeline does it.
 */
export async function cutFile(file: string, bulkBytes: number): Promise<Cut[]> {
  const cuts: Cut[] = [];
  let [start, position, items, lines] = [0, 0, 0, 0];
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    for (let at = chunk.indexOf(LINE_BREAK); at >= 0; at = chunk.indexOf(LINE_BREAK, at + 1)) {
      if (++lines % 2 === 1) continue;
      items++;
      const end = position + at + 1;
      if (end - start < bulkBytes) continue;
      cuts.push({ start, end, items });
      [start, items] = [end, 0];
    }
    position += chunk.length;
  }
  if (lines % 2 === 1) throw new Error('the file of prepared documents ends in the middle of an item');
  if (items > 0) cuts.push({ start, end: position, items });
  return cuts;
}
