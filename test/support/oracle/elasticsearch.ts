import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { ANSWER_LIMITS, JsonReader } from './json-text.ts';
import type { CanonicalDocument } from './contract.ts';

export interface ElasticsearchAddress {
  /** `http://127.0.0.1:9200` or https; no path. */
  readonly url: string;
  readonly username?: string;
  readonly password?: string;
  readonly apiKey?: string;
  /** Path of a PEM file; without it the system's authorities count. */
  readonly caFile?: string;
  readonly verify?: boolean;
}

export interface DocumentPosition {
  readonly id: string;
  readonly index: string;
}

const PAGE = 5000;
/** Sorts behind every uuid: documents without an `id` field come last and are seen. */
const NO_ID = 'without-id';

/** Elasticsearch's end, by plain HTTP: the client library parses numbers as doubles and would hide a rounded one. */
export class ElasticsearchEnd {
  private readonly address: ElasticsearchAddress;

  constructor(address: ElasticsearchAddress) {
    this.address = address;
  }

  /** Names of the open indices that match a pattern, sorted. */
  async indices(pattern: string): Promise<string[]> {
    const answer = await this.json<{ index: string; status: string }[]>('GET', `/_cat/indices/${encodeURIComponent(pattern)}?format=json&h=index,status&expand_wildcards=open`);
    return answer.map(({ index }) => index).sort();
  }

  /** Makes everything written so far visible to search. */
  async refresh(pattern: string): Promise<void> {
    await this.json('POST', `/${encodeURIComponent(pattern)}/_refresh`);
  }

  /**
   * All documents that match a pattern, in the order of their `id` field. Throws when a shard did not answer or the
   * number seen is not the number counted: a comparison of half a cluster must never say "equal".
   */
  async *positions(pattern: string): AsyncGenerator<DocumentPosition> {
    const path = `/${encodeURIComponent(pattern)}`;
    const { count } = await this.json<{ count: number }>('GET', `${path}/_count`);
    let seen = 0;
    for (let after: unknown[] | undefined; ; ) {
      const body = { size: PAGE, _source: false, track_total_hits: false, sort: [{ id: { order: 'asc', unmapped_type: 'keyword', missing: NO_ID } }, { _index: 'asc' }], ...(after ? { search_after: after } : {}) };
      const answer = await this.json<SearchAnswer>('POST', `${path}/_search`, body);
      if (answer._shards.failed > 0 || answer.timed_out) throw new Error(`the search over ${pattern} was not answered by all shards: is "id" a keyword in all of them?`);
      for (const hit of answer.hits.hits) yield { id: hit._id, index: hit._index };
      seen += answer.hits.hits.length;
      if (answer.hits.hits.length < PAGE) break;
      after = answer.hits.hits.at(-1)?.sort;
    }
    if (seen !== count) throw new Error(`${pattern}: ${count} documents counted, ${seen} seen; is something still writing?`);
  }

  /** Documents by index and id, in the order asked for; undefined where there is none. */
  async documents(positions: readonly DocumentPosition[]): Promise<(CanonicalDocument | undefined)[]> {
    const body = { docs: positions.map(({ id, index }) => ({ _index: index, _id: id })) };
    return parseDocuments(await this.text('POST', '/_mget?realtime=false', body));
  }

  private async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    return JSON.parse(await this.text(method, path, body)) as T;
  }

  private text(method: string, path: string, body?: unknown): Promise<string> {
    const { url, username, password, apiKey, caFile, verify = true } = this.address;
    const secure = url.startsWith('https:');
    const authorization = apiKey ? `ApiKey ${apiKey}` : username ? `Basic ${Buffer.from(`${username}:${password ?? ''}`).toString('base64')}` : undefined;
    const options = {
      method, headers: { 'content-type': 'application/json', ...(authorization ? { authorization } : {}) },
      ...(secure ? { rejectUnauthorized: verify, ...(caFile ? { ca: readFileSync(caFile) } : {}) } : {}),
    };
    return new Promise((resolve, reject) => {
      const request = (secure ? https : http).request(new URL(path, url), options, (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part)).on('error', reject).on('end', () => {
          const text = Buffer.concat(parts).toString('utf8');
          if ((response.statusCode ?? 500) < 300) resolve(text);
          else reject(new Error(`${method} ${path.split('?')[0]} was answered with ${response.statusCode}: ${text.slice(0, 400)}`));
        });
      });
      request.on('error', reject).end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}

interface SearchAnswer {
  readonly timed_out: boolean;
  readonly _shards: { readonly failed: number };
  readonly hits: { readonly hits: readonly { readonly _id: string; readonly _index: string; readonly sort: unknown[] }[] };
}

/** The documents of an answer to `_mget`, field by field as canonical text. Throws when an item holds an error. */
function parseDocuments(answer: string): (CanonicalDocument | undefined)[] {
  const reader = new JsonReader(answer, ANSWER_LIMITS);
  const documents: (CanonicalDocument | undefined)[] = [];
  reader.object((key) => {
    if (key !== '"docs"') reader.value();
    else reader.array(() => documents.push(parseItem(reader)));
  });
  reader.end();
  return documents;
}

function parseItem(reader: JsonReader): CanonicalDocument | undefined {
  let source: Map<string, string> | undefined;
  reader.object((key) => {
    if (key === '"_source"') {
      const fields = new Map<string, string>();
      reader.object((field) => fields.set(JSON.parse(field) as string, reader.value()));
      source = fields;
    } else {
      const value = reader.value();
      if (key === '"error"' && !value.includes('"index_not_found_exception"')) throw new Error(`a document could not be read: ${value.slice(0, 300)}`);
    }
  });
  return source;
}
