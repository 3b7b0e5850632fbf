import { SEARCH_TEXT } from '../../connector/definition.ts';
import type { Connector } from '../../connector/definition.ts';
import type { Cells } from '../../core/cells.ts';
import type { Row, RowShape } from '../../core/contracts.ts';
import type { ByteWriter } from './byte-writer.ts';
import { planOf } from './document-plan.ts';
import type { DocumentPlan } from './document-plan.ts';
import { proveJson } from './json-validity.ts';
import { ProvenTexts } from './proven-texts.ts';
import { writeScalar } from './scalars.ts';
import { SearchTextWriter } from './search-text.ts';

export interface DocumentOptions {
  /** Write `search_text`, and at most so many bytes of it; 0 writes none. */
  readonly searchTextBytes: number;
}

/** What is known of a document once it is written. */
export interface WrittenDocument {
  /** JSON columns that were kept as `{"_invalid_json": "<text>"}`. */
  readonly invalidJson: number;
  /** JSON columns with a text: a document of which Elasticsearch refused one can be written again without them. */
  readonly jsonColumns: number;
}

/** Writes the rows of one table as documents. One object for each connector: it remembers the plan of each row shape. */
export class DocumentWriter {
  private readonly connector: Connector;
  private readonly options: DocumentOptions;
  private readonly plans = new WeakMap<RowShape, DocumentPlan>();
  private readonly proven = new ProvenTexts();

  constructor(connector: Connector, options: DocumentOptions) {
    this.connector = connector;
    this.options = options;
  }

  /**
   * Appends the document of a row, one line without its end. With `distrustJson` every JSON column is written as
   * `_invalid_json`: for the document that Elasticsearch refused to parse though its JSON was proven.
   */
  write(writer: ByteWriter, row: Row, distrustJson = false): WrittenDocument {
    const plan = this.planOf(row.shape);
    const start = writer.length;
    let invalidJson = 0;
    let jsonColumns = 0;
    for (const column of plan.columns) {
      const { cells } = row;
      if (cells.isNull(column.index)) {
        if (column.ifNull) writer.raw(column.ifNull);
        continue;
      }
      writer.raw(column.name);
      if (column.kind === 'json') {
        jsonColumns++;
        const at = distrustJson ? -1 : spliceJson(writer, cells, column.index, this.proven);
        plan.spliced[column.index] = at;
        if (at < 0) {
          invalidJson++;
          writeInvalidJson(writer, cells, column.index);
        }
      } else writeScalar(writer, column.kind, cells.bytes, cells.start(column.index), cells.end(column.index));
    }
    if (this.options.searchTextBytes > 0 && plan.search.length > 0) this.writeSearchText(writer, plan, row.cells);
    // Every field was written behind a comma; the first comma becomes the brace. A row always has its id.
    writer.bytes[start] = OPEN;
    writer.byte(CLOSE);
    return { invalidJson, jsonColumns };
  }

  /**
   * From the last column to the first, each with an even share of what is left: a long `inputs` must not push out the
   * error that somebody looks for.
   */
  private writeSearchText(writer: ByteWriter, plan: DocumentPlan, cells: Cells): void {
    const before = writer.length;
    writer.raw(SEARCH_FIELD);
    const text = new SearchTextWriter(writer);
    for (let at = plan.search.length - 1; at >= 0; at--) {
      const { index, json } = plan.search[at]!;
      const share = Math.floor((this.options.searchTextBytes - text.length) / (at + 1));
      const length = cells.isNull(index) ? 0 : cells.end(index) - cells.start(index);
      if (length === 0 || share <= 0) continue;
      const spliced = json ? plan.spliced[index]! : -1;
      if (spliced >= 0) text.json(spliced, spliced + length, share);
      else text.plain(cells.get(index)!, share);
    }
    if (text.length === 0) writer.length = before;
    else writer.byte(QUOTE);
  }

  private planOf(shape: RowShape): DocumentPlan {
    const known = this.plans.get(shape);
    if (known) return known;
    const plan = planOf(this.connector, shape);
    this.plans.set(shape, plan);
    return plan;
  }
}

const OPEN = 0x7b;
const CLOSE = 0x7d;
const QUOTE = 0x22;
const SEARCH_FIELD = Buffer.from(`,"${SEARCH_TEXT}":"`);
const INVALID = Buffer.from('{"_invalid_json":');

/** Appends the text itself if it is proven to be JSON and returns where it is; otherwise appends nothing: -1. */
function spliceJson(writer: ByteWriter, cells: Cells, index: number, proven: ProvenTexts): number {
  const start = writer.length;
  writer.reserve(cells.end(index) - cells.start(index) + 1);
  writer.raw(cells.bytes, cells.start(index), cells.end(index));
  if (proven.has(cells.bytes, cells.start(index), cells.end(index))) return start;
  if (proveJson(writer.bytes, writer.words, start, writer.length)) {
    // as written: where its line breaks became blanks, the text of the row is not the one that is kept
    proven.add(writer.bytes, start, writer.length);
    return start;
  }
  writer.length = start;
  return -1;
}

function writeInvalidJson(writer: ByteWriter, cells: Cells, index: number): void {
  writer.raw(INVALID);
  writer.jsonString(cells.bytes, cells.start(index), cells.end(index));
  writer.byte(CLOSE);
}
