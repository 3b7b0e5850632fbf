import pg from 'pg';
import pino from 'pino';
import { TABLES, type TableName } from '../../../src/core/contracts.ts';
import type { BackfillFilter } from '../../../src/core/state.ts';
import { type BackfillOptions, type BackfillResult, runBackfill } from '../../../src/pipeline/backfill/backfill.ts';
import { ReadSession } from '../../../src/pipeline/backfill/read-session.ts';
import { connect as connectPinned, type PgTarget } from '../../../src/pipeline/capture/pg-connection.ts';
import { textsOf } from '../../support/cells.ts';
import type { Isolation } from '../../support/servers.ts';
import type { MemoryKafka } from './memory-kafka.ts';

export const EVERYTHING: BackfillFilter = { tables: TABLES, tenantIds: [], from: null, before: null };

export function targetOf(here: Isolation): PgTarget {
  const url = new URL(here.postgresUrl);
  return { host: url.hostname, port: Number(url.port), user: url.username, password: decodeURIComponent(url.password), database: here.database };
}

export const pinned = (here: Isolation): (() => Promise<pg.Client>) => () => connectPinned(targetOf(here), { role: 'migrate' });

export const openSession = (here: Isolation): Promise<ReadSession> => ReadSession.open(pinned(here));

export const writersOf = (kafka: MemoryKafka): BackfillOptions['writers'] => ({ idOf: (memberId, index) => `${memberId}/${index}`, open: kafka.openPublisher });

export type Overrides = Partial<BackfillOptions>;

export function backfill(here: Isolation, kafka: MemoryKafka, overrides: Overrides = {}): Promise<BackfillResult> {
  return runBackfill({
    connect: pinned(here),
    writers: writersOf(kafka),
    silentMs: 6_000,
    control: kafka.controlLog(),
    source: { epoch: 1, slot: here.slot },
    schema: 'public',
    filter: EVERYTHING,
    workers: 1,
    batchRows: 1000,
    rowsPerSecond: 0,
    deletePolicy: 'apply',
    barrierTimeoutMs: 30_000,
    retryForMs: 20_000,
    signal: new AbortController().signal,
    logger: pino({ level: process.env['DIFY_ES_TEST_LOG'] ?? 'silent' }),
    ...overrides,
  });
}

/** What the table holds, by id, each column as the server's own output through COPY's text, which no cast touches. */
export async function tableRows(client: pg.ClientBase, table: TableName, where = 'true'): Promise<Map<string, Record<string, string | null>>> {
  const types = { getTypeParser: () => (text: string) => text } as unknown as pg.CustomTypesConfig;
  const { rows } = await client.query<Record<string, string | null>>({ text: `SELECT * FROM public.${table} WHERE ${where}`, types });
  return new Map(rows.map((row) => [String(row['id']), row]));
}

/** What the log ends with for a table, by id. Two documents of one id are a fault. */
export function logRows(kafka: MemoryKafka, table: TableName): Map<string, Record<string, string | null>> {
  const found = new Map<string, Record<string, string | null>>();
  for (const record of kafka.compacted().values()) {
    if (record.table !== table || record.row === null) continue;
    if (found.has(record.key.id)) throw new Error(`two documents for ${record.key.id}`);
    found.set(record.key.id, textsOf(record.row));
  }
  return found;
}
