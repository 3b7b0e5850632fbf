import type { Client } from '@elastic/elasticsearch';
import { errors } from '@elastic/elasticsearch';
import { DifyEsError } from '../../core/errors.ts';
import { esError, failureOf } from './elastic-errors.ts';

/** Where what must outlive Kafka is kept beside it (see OUTLIVES_KAFKA in src/core/state.ts). */
export function stateIndex(prefix: string): string {
  return `${prefix}-cdc-state`;
}

/**
 * One document for each key; the value is JSON text in one field, so no mapping ever meets it and no number in it is
 * rounded. Its name has no month, so Dify's retention, which compares what is behind the last dash, leaves it alone.
 */
const BODY = {
  settings: { 'index.number_of_shards': '1', 'index.auto_expand_replicas': '0-1' },
  mappings: { dynamic: false, properties: { key: { type: 'keyword' }, value: { type: 'keyword', index: false, doc_values: false }, at: { type: 'date' } } },
} as const;

interface StateDocument {
  readonly key: string;
  readonly value: string;
  readonly at: string;
}

/** Small state in Elasticsearch. All calls throw a DifyEsError; none waits, since the caller knows what can wait. */
export class StateMirror {
  private readonly client: Client;
  private readonly index: string;
  private ready = false;

  constructor(client: Client, prefix: string) {
    this.client = client;
    this.index = stateIndex(prefix);
  }

  /** Durable when it returns: Elasticsearch syncs its translog before it answers. */
  async put(key: string, value: unknown): Promise<void> {
    await this.ensureIndex();
    const body: StateDocument = { key, value: JSON.stringify(value), at: new Date().toISOString() };
    await this.call(() => this.client.transport.request({ method: 'PUT', path: this.document(key), body }));
  }

  /** The newest value, refreshed or not; undefined when there is none, or no index. */
  async get<T>(key: string): Promise<T | undefined> {
    const path = this.document(key);
    const answer = await this.call(() => this.client.transport.request<{ found?: boolean; _source?: StateDocument }>({ method: 'GET', path }, { ignore: [404] }));
    return answer.found && answer._source ? (JSON.parse(answer._source.value) as T) : undefined;
  }

  async remove(key: string): Promise<void> {
    const path = this.document(key);
    if (await this.exists()) await this.call(() => this.client.transport.request({ method: 'DELETE', path }, { ignore: [404] }));
  }

  /** All keys with that beginning, sorted; empty when there is no index. */
  async entries<T>(prefix: string): Promise<[key: string, value: T][]> {
    if (!(await this.exists())) return [];
    await this.call(() => this.client.transport.request({ method: 'POST', path: `/${this.index}/_refresh` }));
    const found: [string, T][] = [];
    for (let after: string | undefined; ; ) {
      const body = { size: PAGE, query: { prefix: { key: prefix } }, sort: [{ key: 'asc' }], ...(after === undefined ? {} : { search_after: [after] }) };
      interface Answer { hits: { hits: { _source: StateDocument }[] } }
      const answer = await this.call(() => this.client.transport.request<Answer>({ method: 'POST', path: `/${this.index}/_search`, body }));
      for (const { _source } of answer.hits.hits) found.push([_source.key, JSON.parse(_source.value) as T]);
      if (answer.hits.hits.length < PAGE) return found;
      after = found.at(-1)![0];
    }
  }

  private async ensureIndex(): Promise<void> {
    if (this.ready) return;
    if (!(await this.exists())) await this.create();
    this.ready = true;
  }

  private async create(): Promise<void> {
    try {
      await this.client.transport.request({ method: 'PUT', path: `/${this.index}`, body: BODY });
    } catch (error) {
      // Another process was quicker.
      if (error instanceof errors.ResponseError && failureOf(error).type === 'resource_already_exists_exception') return;
      throw esError(error);
    }
  }

  private exists(): Promise<boolean> {
    return this.call(() => this.client.transport.request<boolean>({ method: 'HEAD', path: `/${this.index}` }));
  }

  private document(key: string): string {
    return `/${this.index}/_doc/${encodeURIComponent(key)}`;
  }

  private async call<T>(request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (error) {
      throw esError(error);
    }
  }
}

const PAGE = 1_000;
const PROBE_KEY = 'probe/sink';

/** A small write that changes nothing: true when Elasticsearch takes writes at all. Throws ES_AUTH and ES_RIGHTS. */
export async function probeWrite(client: Client, prefix: string): Promise<boolean> {
  try {
    await new StateMirror(client, prefix).put(PROBE_KEY, null);
    return true;
  } catch (error) {
    if (error instanceof DifyEsError && (error.code === 'ES_AUTH' || error.code === 'ES_RIGHTS')) throw error;
    return false;
  }
}
