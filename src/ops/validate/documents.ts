import { errors, type Client } from '@elastic/elasticsearch';
import { setTimeout as pause } from 'node:timers/promises';
import { CONNECTORS } from '../../connector/registry.ts';
import type { TableName } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { esError, failureOf } from '../../pipeline/sink/elastic-errors.ts';
import { indexPattern, parseIndexName, tenantPattern, type IndexParts } from '../../pipeline/sink/index-name.ts';
import { mgetItems, searchPage, type FoundDocument, type SearchPage } from './raw-documents.ts';

export interface IndexInfo {
  readonly name: string;
  readonly parts: IndexParts;
  /** 0 where it is closed: nobody can count them. */
  readonly documents: number;
  readonly closed: boolean;
}

export interface DocumentAddress {
  readonly index: string;
  readonly id: string;
  /** Only this field of _source is wanted: the document may be large. */
  readonly field?: string;
}

/** Ids on a page of a scan: an answer of about 1.5 MB. The server's limit is 10,000. */
const PAGE = 10_000;
const KEEP_ALIVE = '30m';
const ATTEMPTS = 6;

/** Elasticsearch as validation reads it: answers stay text, so that versions and numbers keep their digits. */
export class Documents {
  readonly #client: Client;
  readonly #prefix: string;
  readonly #signal: AbortSignal;

  constructor(client: Client, prefix: string, signal: AbortSignal) {
    this.#client = client;
    this.#prefix = prefix;
    this.#signal = signal;
  }

  /**
   * The indices of the table (of these tenants; none named: of all), sorted by name; exactly ours. Closed ones only where
   * they are asked for: no document of theirs can be read. Refreshed, so that counts and searches see what was written up
   * to now.
   */
  async indices(table: TableName, tenantIds: readonly string[], which: 'open' | 'open,closed' = 'open'): Promise<IndexInfo[]> {
    const connector = CONNECTORS[table];
    const patterns = tenantIds.length === 0 ? [indexPattern(this.#prefix, connector)] : tenantIds.map((tenant) => tenantPattern(this.#prefix, connector, tenant));
    interface Line { index: string; status: 'open' | 'close'; 'docs.count': string | null }
    const found: IndexInfo[] = [];
    for (const pattern of patterns) {
      await this.#rawOrGone('POST', `/${pattern}/_refresh`, undefined, { expand_wildcards: 'open' });
      const answer = await this.#raw('GET', `/_cat/indices/${pattern}`, undefined, { format: 'json', h: 'index,status,docs.count', expand_wildcards: which });
      for (const line of JSON.parse(answer.toString('utf8')) as Line[]) {
        const parts = parseIndexName(this.#prefix, [connector], line.index);
        if (parts) found.push({ name: line.index, parts, documents: Number(line['docs.count'] ?? 0), closed: line.status === 'close' });
      }
    }
    return found.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Each document or null, in the order asked for. Real time: it sees what no refresh has made visible to searches. */
  async mget(addresses: readonly DocumentAddress[]): Promise<(FoundDocument | null)[]> {
    if (addresses.length === 0) return [];
    const body = JSON.stringify({ docs: addresses.map(({ index, id, field }) => ({ _index: index, _id: id, ...(field === undefined ? {} : { _source: [field] }) })) });
    for (let attempt = 1; ; attempt++) {
      const items = mgetItems(await this.#raw('POST', '/_mget', body));
      const failed = items.findIndex((item) => item.kind === 'failed');
      if (failed === -1) return items.map((item) => (item.kind === 'found' ? item.document : null));
      const item = items[failed];
      // a shard that moves answers again in a moment; a closed index does not
      if (attempt === ATTEMPTS) throw new DifyEsError('ES_UNREADABLE', `${addresses[failed]!.index} cannot be read: ${item?.kind === 'failed' ? item.type : ''}`);
      await this.#backOff(attempt);
    }
  }

  /** All documents of an index at one point in time, ids and versions only, page by page. An index that is gone has none. */
  async *scan(index: string): AsyncGenerator<readonly FoundDocument[]> {
    const opened = await this.#rawOrGone('POST', `/${index}/_pit`, undefined, { keep_alive: KEEP_ALIVE });
    if (opened === null) return;
    let pit = (JSON.parse(opened.toString('utf8')) as { id: string }).id;
    try {
      for (let after: string | null = null; ; ) {
        const body: string = `{"size":${PAGE},"_source":false,"version":true,"track_total_hits":false,"sort":[{"_shard_doc":"asc"}],"pit":${JSON.stringify({ id: pit, keep_alive: KEEP_ALIVE })}${after === null ? '' : `,"search_after":${after}`}}`;
        const answer: Buffer | null = await this.#rawOrGone('POST', '/_search', body);
        // a server that was restarted has forgotten it, and one that was not asked for so long has let it go
        if (answer === null) throw new DifyEsError('ES_UNREACHABLE', `${index} was dropped, or Elasticsearch restarted, while it was read (or the next page was not asked for within ${KEEP_ALIVE})`);
        const page: SearchPage = this.#whole(searchPage(answer), index);
        pit = page.pit ?? pit;
        if (page.documents.length > 0) yield page.documents;
        if (page.documents.length < PAGE) return;
        after = page.after;
      }
    } finally {
      await this.#raw('DELETE', '/_pit', JSON.stringify({ id: pit })).catch(() => undefined);
    }
  }

  /** `count` documents of an index (at most 10,000), each with the same chance. */
  async sample(index: string, count: number): Promise<readonly FoundDocument[]> {
    const body = JSON.stringify({ size: Math.min(count, PAGE), _source: false, version: true, track_total_hits: false, query: { function_score: { random_score: {}, boost_mode: 'replace' } } });
    const answer = await this.#rawOrGone('POST', `/${index}/_search`, body);
    return answer === null ? [] : this.#whole(searchPage(answer), index).documents;
  }

  #whole<T extends { failedShards: number }>(page: T, index: string): T {
    if (page.failedShards > 0) throw new DifyEsError('ES_UNREADABLE', `${index} cannot be read whole: ${page.failedShards} shards did not answer`);
    return page;
  }

  async #rawOrGone(method: string, path: string, body?: string, querystring?: Record<string, string>): Promise<Buffer | null> {
    try {
      return await this.#raw(method, path, body, querystring);
    } catch (error) {
      if (error instanceof errors.ResponseError && error.statusCode === 404) return null;
      throw error;
    }
  }

  /** The answer as it came. Passing trouble is waited out; the rest is thrown as a code of ours, but for 404. */
  async #raw(method: string, path: string, body?: string, querystring?: Record<string, string>): Promise<Buffer> {
    for (let attempt = 1; ; attempt++) {
      this.#signal.throwIfAborted();
      try {
        return await this.#once(method, path, body, querystring);
      } catch (error) {
        if (error instanceof errors.ResponseError && error.statusCode === 404) throw error;
        const { kind } = failureOf(error);
        if (attempt === ATTEMPTS || (kind !== 'blocked' && kind !== 'lost')) throw esError(error);
        await this.#backOff(attempt);
      }
    }
  }

  async #once(method: string, path: string, body?: string, querystring?: Record<string, string>): Promise<Buffer> {
    const answer = await this.#client.transport.request<AsyncIterable<Buffer>>(
      { method, path, ...(body === undefined ? {} : { body }), ...(querystring ? { querystring } : {}) },
      { asStream: true, meta: true, signal: this.#signal, headers: { 'content-type': 'application/json', accept: 'application/json' } },
    );
    const text = await collect(answer.body);
    // the client leaves the status of a streamed answer to its caller
    if ((answer.statusCode ?? 0) < 400) return text;
    throw new errors.ResponseError({ ...answer, body: parseOrNull(text) } as ConstructorParameters<typeof errors.ResponseError>[0]);
  }

  async #backOff(attempt: number): Promise<void> {
    await pause(Math.min(5000, 200 * 2 ** attempt), undefined, { signal: this.#signal });
  }
}

async function collect(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of stream) chunks.push(chunk);
  } catch {
    throw new errors.ConnectionError('the answer was cut off');
  }
  return Buffer.concat(chunks);
}

function parseOrNull(text: Buffer): unknown {
  try {
    return JSON.parse(text.toString('utf8'));
  } catch {
    return null;
  }
}
