import { SEARCH_TEXT } from '../../connector/definition.ts';
import type { Connector } from '../../connector/definition.ts';
import type { Cell, Row, RowShape } from '../../core/contracts.ts';
import type { ByteWriter } from './byte-writer.ts';
import { planOf } from './document-plan.ts';
import type { DocumentPlan } from './document-plan.ts';
import { proveJson } from './json-validity.ts';
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
      const cell = row.cells[column.index]!;
      if (cell === null) {
        if (column.ifNull) writer.raw(column.ifNull);
        continue;
      }
      writer.raw(column.name);
      if (column.kind === 'json') {
        jsonColumns++;
        const at = distrustJson ? -1 : spliceJson(writer, cell);
        plan.spliced[column.index] = at;
        if (at < 0) {
          invalidJson++;
          writeInvalidJson(writer, cell);
        }
      } else writeScalar(writer, column.kind, cell);
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
  private writeSearchText(writer: ByteWriter, plan: DocumentPlan, cells: readonly Cell[]): void {
    const before = writer.length;
    writer.raw(SEARCH_FIELD);
    const text = new SearchTextWriter(writer);
    for (let at = plan.search.length - 1; at >= 0; at--) {
      const { index, json } = plan.search[at]!;
      const cell = cells[index]!;
      const share = Math.floor((this.options.searchTextBytes - text.length) / (at + 1));
      if (cell === null || cell.length === 0 || share <= 0) continue;
      const spliced = json ? plan.spliced[index]! : -1;
      if (spliced >= 0) text.json(spliced, spliced + cell.length, share);
      else text.plain(cell, share);
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
function spliceJson(writer: ByteWriter, cell: Buffer): number {
  const start = writer.length;
  writer.reserve(cell.length + 1);
  writer.raw(cell);
  if (proveJson(writer.bytes, writer.words, start, writer.length)) return start;
  writer.length = start;
  return -1;
}

function writeInvalidJson(writer: ByteWriter, cell: Buffer): void {
  writer.raw(INVALID);
  writer.jsonString(cell);
  writer.byte(CLOSE);
}
