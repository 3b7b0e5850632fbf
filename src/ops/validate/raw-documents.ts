import { eachElement, members, membersFrom, skipBlanks, stringValue, type Span } from './json-compare.ts';

/**
 * A document as Elasticsearch answered it, still text: `_version` as its digits (the client's parser would round it
 * above 2^53) and `_source` as a span of `text`.
 */
export interface FoundDocument {
  readonly index: string;
  readonly id: string;
  readonly version: bigint;
  readonly text: Buffer;
  /** Null when `_source` was not asked for. */
  readonly source: Span | null;
}

/** One item of an `_mget`: a document, or why there is none. */
export type MgetItem = { readonly kind: 'found'; readonly document: FoundDocument } | { readonly kind: 'absent' } | { readonly kind: 'failed'; readonly type: string };

/** The items of an `_mget` answer in the order they were asked for. A missing index is an absent document. */
export function mgetItems(text: Buffer): MgetItem[] {
  const items: MgetItem[] = [];
  // nothing comes before `docs`, and looking for it as a member would walk over all documents once more
  eachObject(text, text.indexOf('[', text.indexOf('"docs"')), (parts) => void items.push(mgetItem(text, parts)));
  return items;
}

function mgetItem(text: Buffer, parts: ReadonlyMap<string, Span>): MgetItem {
  const error = parts.get('error');
  if (!error) return word(text, member(parts, 'found')) === 'true' ? { kind: 'found', document: documentOf(text, parts) } : { kind: 'absent' };
  const type = stringOf(text, members(text, error.start).get('type')) ?? 'unknown';
  return type === 'index_not_found_exception' ? { kind: 'absent' } : { kind: 'failed', type };
}

function eachObject(text: Buffer, at: number, take: (parts: ReadonlyMap<string, Span>) => void): void {
  eachElement(text, at, (start) => {
    const { found, end } = membersFrom(text, skipBlanks(text, start + 1));
    take(found);
    return end;
  });
}

export interface SearchPage {
  readonly documents: readonly FoundDocument[];
  /** `sort` of the last hit, to go on behind it; null when the page is empty. Raw text: `_shard_doc` is a long. */
  readonly after: string | null;
  /** The id of the point in time, which may change from page to page. */
  readonly pit: string | null;
  /** Shards that did not answer: what they hold is not on the page. */
  readonly failedShards: number;
}

/** A `_search` answer. */
export function searchPage(text: Buffer): SearchPage {
  const top = members(text, 0);
  const hits: ReadonlyMap<string, Span>[] = [];
  eachObject(text, member(members(text, member(top, 'hits').start), 'hits').start, (parts) => void hits.push(parts));
  const sort = hits.at(-1)?.get('sort');
  const shards = members(text, member(top, '_shards').start);
  return {
    documents: hits.map((parts) => documentOf(text, parts)),
    after: sort ? text.toString('utf8', sort.start, sort.end) : null,
    pit: stringOf(text, top.get('pit_id')) ?? null,
    failedShards: Number(word(text, member(shards, 'failed'))),
  };
}

function documentOf(text: Buffer, parts: ReadonlyMap<string, Span>): FoundDocument {
  return {
    index: stringOf(text, member(parts, '_index'))!,
    id: stringOf(text, member(parts, '_id'))!,
    version: BigInt(word(text, member(parts, '_version'))),
    text,
    source: parts.get('_source') ?? null,
  };
}

function member(parts: ReadonlyMap<string, Span>, name: string): Span {
  const span = parts.get(name);
  if (!span) throw new SyntaxError(`Elasticsearch's answer lacks "${name}"`);
  return span;
}

function stringOf(text: Buffer, span: Span | undefined): string | undefined {
  return span ? stringValue(text, span.start, span.end) : undefined;
}

function word(text: Buffer, span: Span): string {
  return text.toString('latin1', span.start, span.end);
}
