import type { Client } from '@elastic/elasticsearch';
import type pg from 'pg';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import { TABLES, type Row, type TableName } from '../../../src/core/contracts.ts';
import { parseLsn } from '../../../src/core/lsn.ts';
import { FIRST_OWN_VERSION, versionOfCommit, type RowVersion } from '../../../src/core/row-version.ts';
import { Documents } from '../../../src/ops/validate/documents.ts';
import { expectedDocuments } from '../../../src/ops/validate/expected.ts';
import type { Boundaries } from '../../../src/ops/validate/expectations.ts';
import { Source } from '../../../src/ops/validate/source.ts';
import { validate, type Validation, type ValidatePorts, type ValidateRequest } from '../../../src/ops/validate/validate.ts';
import { connect, type PgTarget } from '../../../src/pipeline/capture/pg-connection.ts';
import { makeClient } from '../../../src/pipeline/sink/elastic-client.ts';
import { indexOf } from '../../../src/pipeline/sink/index-name.ts';
import { ensureTemplates, templateOf } from '../../../src/pipeline/sink/templates.ts';
import type { Isolation } from '../../support/servers.ts';

/** Both ends with equal content, written by the product's own document maker and without the way between them. */
export class Ends {
  readonly pg: pg.Client;
  readonly elastic: Client;
  readonly prefix: string;
  readonly source: Source;
  readonly documents: Documents;
  readonly #clients: readonly pg.Client[];

  private constructor(clients: readonly pg.Client[], elastic: Client, prefix: string) {
    this.#clients = clients;
    this.pg = clients[0]!;
    this.elastic = elastic;
    this.prefix = prefix;
    this.source = new Source({ scanning: clients[1]!, lookup: clients[2]! }, 'public');
    this.documents = new Documents(elastic, prefix, new AbortController().signal);
  }

  static async open(here: Isolation): Promise<Ends> {
    const { env } = here;
    const target: PgTarget = { host: env['DB_HOST']!, port: Number(env['DB_PORT']), user: env['DB_USERNAME']!, password: env['DB_PASSWORD']!, database: env['DB_DATABASE']! };
    const clients = [await connect(target, { role: 'test' }), await connect(target, { role: 'test' }), await connect(target, { role: 'test' })];
    const elastic = makeClient({ nodes: [here.elasticsearchUrl], auth: null, tls: { ca: null, rejectUnauthorized: true }, timeoutMs: 30_000, maxRetries: 0 });
    const settings = { prefix: here.indexPrefix, shards: 1, replicas: 0, refreshInterval: '30s', totalFieldsLimit: 2000, searchText: true };
    await ensureTemplates(elastic, TABLES.map((table) => templateOf(CONNECTORS[table], settings)));
    return new Ends(clients, elastic, here.indexPrefix);
  }

  async close(): Promise<void> {
    for (const client of this.#clients) await client.end();
    await this.elastic.close();
  }

  /** Version of a commit now, higher than any before, also where a DELETE has just raised a version by one. */
  async now(): Promise<RowVersion> {
    await this.pg.query(`SELECT pg_logical_emit_message(false, 'test', repeat('x', 100))`);
    const { rows } = await this.pg.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
    return versionOfCommit(1, parseLsn(rows[0]!.lsn));
  }

  /** Writes the documents of all rows, or of the rows of these ids. */
  async index(table: TableName, ids: readonly string[] | null = null): Promise<number> {
    const open = await this.source.open(table);
    if (!open) return 0;
    const expected = expectedDocuments();
    const version = await this.now();
    let count = 0;
    const write = async (rows: readonly { key: { id: string; tenantId: string; createdAt: string }; row: Row }[]): Promise<void> => {
      const parts: Buffer[] = [];
      for (const { key, row } of rows) {
        const index = indexOf(this.prefix, CONNECTORS[table], key);
        if (typeof index === 'string') continue;
        parts.push(Buffer.from(`{"index":{"_index":"${index.name}","_id":"${key.id}","version":${version},"version_type":"external_gte"}}\n`), Buffer.from(expected(row)), Buffer.from('\n'));
        count++;
      }
      if (parts.length === 0) return;
      const answer = await this.elastic.transport.request<{ errors: boolean; items: object[] }>({ method: 'POST', path: '/_bulk', body: Buffer.concat(parts) as unknown as string }, { headers: { 'content-type': 'application/x-ndjson' } });
      if (answer.errors) throw new Error(JSON.stringify(answer.items.find((item) => JSON.stringify(item).includes('error'))));
    };
    if (ids) for await (const rows of this.source.rowsOf(open, ids)) await write(rows);
    else for await (const { rows } of this.source.scan(open, null)) await write(rows);
    return count;
  }

  async known(more: Partial<Boundaries> = {}): Promise<Boundaries> {
    return { prefix: this.prefix, switched: new Set(), retention: new Map(), archived: new Map(), accepted: new Set(), deletePolicy: 'apply', truncatedAt: new Map(), epoch: 1, ...more };
  }

  async validate(request: Partial<ValidateRequest>, ports: Partial<Omit<ValidatePorts, 'boundaries'>> & { boundaries?: Partial<Boundaries> } = {}): Promise<Validation> {
    const { boundaries, ...rest } = ports;
    return await validate(
      { tables: TABLES, tenantIds: [], sample: 'full', ...request },
      {
        source: this.source, documents: this.documents, boundaries: () => this.known(boundaries), expectedText: expectedDocuments(),
        drain: () => this.now(), repairer: null, signal: new AbortController().signal, ...rest,
      },
    );
  }

  /** Puts a document as it is, with a version of this program unless another is given. */
  async put(index: string, id: string, body: string, version: bigint = FIRST_OWN_VERSION + 1n): Promise<void> {
    await this.elastic.transport.request({ method: 'PUT', path: `/${index}/_doc/${id}`, querystring: { version: String(version), version_type: 'external_gte' }, body }, { headers: { 'content-type': 'application/json' } });
  }

  async delete(index: string, id: string): Promise<void> {
    await this.elastic.transport.request({ method: 'DELETE', path: `/${index}/_doc/${id}` });
  }
}
