import type pg from 'pg';
import { differingFields, expectedDocument, indexStart, ORACLE_TABLES, type CanonicalDocument, type OracleTable, type RowText } from './contract.ts';
import { ElasticsearchEnd, type ElasticsearchAddress } from './elasticsearch.ts';
import { inBatches, mergeEnds, type Meeting } from './merge.ts';
import { PostgresEnd } from './postgres.ts';

export interface OracleOptions {
  readonly pg: pg.ClientConfig;
  readonly es: ElasticsearchAddress;
  /** ELASTICSEARCH_INDEX_PREFIX. */
  readonly prefix: string;
  /** Default: all four. */
  readonly tables?: readonly OracleTable[];
  /** True for what a policy keeps apart on purpose: archived rows, dropped months, switched tenants, accepted dead letters. */
  readonly ignore?: (key: IgnorableKey) => boolean;
  /** How many differences the report lists; all are counted. Default 50. */
  readonly list?: number;
}

export interface IgnorableKey {
  readonly table: OracleTable;
  readonly id: string;
  readonly tenantId: string;
  /** `YYYY.MM`; empty for a row whose created_at has none. */
  readonly month: string;
  /** What is missing: the document of a row, the row of a document, or neither (they differ). */
  readonly kind: Difference['kind'];
}

export interface Difference {
  readonly table: OracleTable;
  readonly kind: 'missing' | 'extra' | 'wrong-index' | 'different';
  readonly id: string;
  readonly index: string;
  /** Of a different document: the fields, and the first one's values around the place where they part. */
  readonly fields?: readonly string[];
  readonly example?: string;
}

export interface TableCounts {
  rows: number;
  documents: number;
  equal: number;
  different: number;
  missing: number;
  extra: number;
  wrongIndex: number;
  /** Rows whose created_at has no month: the contract gives them no index, so they are no difference. */
  noMonth: number;
  ignored: number;
}

export interface OracleReport {
  readonly equal: boolean;
  readonly tables: Readonly<Partial<Record<OracleTable, TableCounts>>>;
  readonly differences: readonly Difference[];
  /** Indices under the prefix that belong to none of the four tables; any of them makes the report unequal. */
  readonly unknownIndices: readonly string[];
}

const BATCH = { count: 500, bytes: 4 * 1024 * 1024 };

/**
 * Compares PostgreSQL with Elasticsearch, every row and every document, both ends read in the order of ids a page at a
 * time. Call it when everything is drained and nobody writes; what changes meanwhile shows up as a difference.
 */
export async function runOracle(options: OracleOptions): Promise<OracleReport> {
  const es = new ElasticsearchEnd(options.es);
  const rows = await PostgresEnd.open(options.pg);
  try {
    await es.refresh(`${options.prefix}-*`);
    const existing = await rows.tables();
    const report = new Report(options);
    for (const table of options.tables ?? ORACLE_TABLES) await compareTable(options.prefix, table, existing.includes(table), rows, es, report);
    return report.result(await unknownIndices(es, options.prefix));
  } finally {
    await rows.close();
  }
}

async function compareTable(prefix: string, table: OracleTable, exists: boolean, rows: PostgresEnd, es: ElasticsearchEnd, report: Report): Promise<void> {
  const meetings = mergeEnds(prefix, table, exists ? rows.positions(table) : nothing(), es.positions(`${indexStart(prefix, table)}*`));
  const settle = async (fetching: Promise<Fetched>): Promise<void> => {
    const { batch, texts, documents } = await fetching;
    batch.forEach((pair, i) => report.pair(table, pair, texts.get(pair.row.id), documents[i]));
  };
  let ahead: Promise<Fetched> | undefined;
  for await (const batch of inBatches(meetings, BATCH, (meeting) => report.meeting(table, meeting))) {
    const fetching = fetchBatch(table, batch, rows, es);
    // When the batch before fails, this one's failure would otherwise be nobody's and end the process.
    fetching.catch(() => {});
    if (ahead) await settle(ahead);
    ahead = fetching;
  }
  if (ahead) await settle(ahead);
  report.finish(table);
}

type Pairs = Extract<Meeting, { kind: 'pair' }>[];

interface Fetched {
  readonly batch: Pairs;
  readonly texts: ReadonlyMap<string, RowText>;
  readonly documents: readonly (CanonicalDocument | undefined)[];
}

/** Both ends at once, and the next batch while the one before is compared: two batches are in memory. */
async function fetchBatch(table: OracleTable, batch: Pairs, rows: PostgresEnd, es: ElasticsearchEnd): Promise<Fetched> {
  const [texts, documents] = await Promise.all([rows.rows(table, batch.map(({ row }) => row.id)), es.documents(batch.map(({ row, index }) => ({ id: row.id, index })))]);
  return { batch, texts, documents };
}

async function* nothing(): AsyncGenerator<never> {}

async function unknownIndices(es: ElasticsearchEnd, prefix: string): Promise<string[]> {
  const known = ORACLE_TABLES.map((table) => indexStart(prefix, table));
  const names = await es.indices(`${prefix}-workflow-*`);
  return names.filter((name) => !known.some((start) => name.startsWith(start) && TAIL.test(name.slice(start.length))));
}

const TAIL = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-\d{4}\.\d{2}$/;

/** Counts meetings into a report. */
class Report {
  private readonly options: OracleOptions;
  private readonly counts: Partial<Record<OracleTable, TableCounts>> = {};
  private readonly differences: Difference[] = [];
  private total = 0;

  constructor(options: OracleOptions) {
    this.options = options;
  }

  meeting(table: OracleTable, meeting: Exclude<Meeting, { kind: 'pair' }>): void {
    const counts = this.of(table);
    switch (meeting.kind) {
      case 'no-month': counts.rows++; counts.noMonth++; return;
      case 'missing': counts.rows++; this.difference({ table, kind: 'missing', id: meeting.row.id, index: meeting.index }, () => counts.missing++); return;
      case 'extra': counts.documents++; this.difference({ table, kind: 'extra', id: meeting.id, index: meeting.index }, () => counts.extra++); return;
      case 'wrong-index': counts.documents++; this.difference({ table, kind: 'wrong-index', id: meeting.id, index: meeting.index }, () => counts.wrongIndex++); return;
      default: meeting satisfies never;
    }
  }

  pair(table: OracleTable, { row, index }: Extract<Meeting, { kind: 'pair' }>, text: RowText | undefined, document: CanonicalDocument | undefined): void {
    const counts = this.of(table);
    counts.rows++;
    counts.documents++;
    if (text === undefined || document === undefined) throw new Error(`${table} ${row.id} was listed and then not found; is something still writing?`);
    const expected = expectedDocument(table, text);
    const fields = differingFields(expected, document);
    if (fields.length === 0) counts.equal++;
    else this.difference({ table, kind: 'different', id: row.id, index, fields, example: example(fields[0] ?? '', expected, document) }, () => counts.different++);
  }

  /** Called when a table is done, so that a table without rows and documents is in the report too. */
  finish(table: OracleTable): void {
    this.of(table);
  }

  result(unknown: readonly string[]): OracleReport {
    return { equal: this.total === 0 && unknown.length === 0, tables: this.counts, differences: this.differences, unknownIndices: unknown };
  }

  private difference(difference: Difference, count: () => void): void {
    const { table, id, index, kind } = difference;
    const tail = index.slice(indexStart(this.options.prefix, table).length);
    if (this.options.ignore?.({ table, id, kind, tenantId: tail.slice(0, 36), month: tail.slice(37) })) {
      this.of(table).ignored++;
      return;
    }
    count();
    this.total++;
    if (this.differences.length < (this.options.list ?? 50)) this.differences.push(difference);
  }

  private of(table: OracleTable): TableCounts {
    return (this.counts[table] ??= { rows: 0, documents: 0, equal: 0, different: 0, missing: 0, extra: 0, wrongIndex: 0, noMonth: 0, ignored: 0 });
  }
}

const EXAMPLE_CHARS = 60;

/** `error: expected …"abc"…, found …"abd"…`, cut around the first character that differs. */
function example(field: string, expected: CanonicalDocument, found: CanonicalDocument): string {
  const [left, right] = [expected.get(field) ?? '(absent)', found.get(field) ?? '(absent)'];
  let at = 0;
  while (at < left.length && left[at] === right[at]) at++;
  const cut = (text: string): string => text.slice(Math.max(0, at - EXAMPLE_CHARS / 2), at + EXAMPLE_CHARS);
  return `${field}: expected ${cut(left)}, found ${cut(right)} (at ${at} of ${left.length} and ${right.length})`;
}
