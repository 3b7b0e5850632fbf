import { randomUUID } from 'node:crypto';
import pg from 'pg';
import pino from 'pino';
import type { DeadLetter, Publisher, PublishTransaction, RowRecord, TableName } from '../../../src/core/contracts.ts';
import { TABLES } from '../../../src/core/contracts.ts';
import { DifyEsError } from '../../../src/core/errors.ts';
import { parseLsn, type Lsn } from '../../../src/core/lsn.ts';
import { stateKeys, type EpochRecord } from '../../../src/core/state.ts';
import { connect, type PgTarget } from '../../../src/pipeline/capture/pg-connection.ts';
import { createSlot } from '../../../src/pipeline/capture/slot.ts';
import { STREAM_DEFAULTS, type StreamHooks, type StreamOptions, type StreamParts, type StreamProgress } from '../../../src/pipeline/capture/stream-contract.ts';
import { StreamLoop } from '../../../src/pipeline/capture/stream-loop.ts';
import { PgoutputDecoder } from '../../../src/pipeline/decode/pgoutput.ts';
import { RecordMaker } from '../../../src/pipeline/decode/record-maker.ts';
import { textsOf } from '../../support/cells.ts';
import { createDifySchema, type Release } from '../../support/dify/schema.ts';

export const TENANT = '7b1e3a52-0c55-4b7e-9a53-2f9d6c1f0a11';
export const OTHER_TENANT = '0d9c1a66-91f5-4f0e-8f0b-5a0f4f6d2b22';

export interface Names {
  readonly env: Readonly<Record<string, string>>;
  readonly slot: string;
  readonly publication: string;
}

export function targetOf(env: Readonly<Record<string, string>>): PgTarget {
  const need = (name: string): string => env[name] ?? '';
  return { host: need('DB_HOST'), port: Number(need('DB_PORT')), user: need('DB_USERNAME'), password: need('DB_PASSWORD'), database: need('DB_DATABASE') };
}

export type Identity = 'index' | 'full' | 'default';

/** Dify's tables, publication and slot. The connection is the test's own. */
export async function openSource(names: Names, options: { release?: Release; identity?: Identity; slot?: boolean } = {}): Promise<pg.Client> {
  const client = await connect(targetOf(names.env), { role: 'test' });
  await createDifySchema(client, options.release ? { release: options.release } : {});
  for (const table of TABLES) await setIdentity(client, table, options.identity ?? 'index');
  await client.query(`CREATE PUBLICATION ${names.publication} FOR TABLE ${TABLES.join(', ')}`);
  if (options.slot ?? true) await createSlot(client, names.slot);
  return client;
}

export async function setIdentity(client: pg.ClientBase, table: TableName, identity: Identity): Promise<void> {
  await client.query(`CREATE UNIQUE INDEX IF NOT EXISTS ${table}_cdc ON ${table} (id, tenant_id, created_at)`);
  await client.query(`ALTER TABLE ${table} REPLICA IDENTITY ${identity === 'index' ? `USING INDEX ${table}_cdc` : identity}`);
}

/** Text that PostgreSQL stores out of line: random, so that compression does not bring it below the threshold. */
export function longText(length = 6_000): string {
  let text = '';
  while (text.length < length) text += randomUUID();
  return text.slice(0, length);
}

export interface RunValues {
  id?: string;
  tenant?: string;
  createdAt?: string;
  graph?: string | null;
  inputs?: string | null;
  status?: string;
}

export async function insertRun(client: pg.ClientBase, values: RunValues = {}): Promise<string> {
  const id = values.id ?? randomUUID();
  await client.query(
    `INSERT INTO workflow_runs (id, tenant_id, app_id, workflow_id, type, triggered_from, version, graph, inputs, status, outputs, created_by_role, created_by, created_at)
     VALUES ($1, $2, $1, $1, 'workflow', 'app-run', 'draft', $3, $4, $5, '{}', 'account', $1, $6)`,
    [id, values.tenant ?? TENANT, values.graph === undefined ? '{}' : values.graph, values.inputs === undefined ? '{}' : values.inputs, values.status ?? 'running', values.createdAt ?? '2025-10-10 08:25:41.123456'],
  );
  return id;
}

/** Runs `work` in a transaction; rolls back when it throws. */
export async function inTransaction<T>(client: pg.ClientBase, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN');
  try {
    const result = await work();
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  }
}

export type FaultPoint = 'begin' | 'send' | 'commit';
/** `refuse`: nothing happened. `apply-then-fail`: it happened, and the answer was lost. */
export interface Fault {
  readonly at: FaultPoint;
  readonly how: 'refuse' | 'apply-then-fail';
  readonly error?: Error;
}

/**
 * Kafka as the contract of Publisher has it: records are visible on commit, the last publisher to begin its first
 * transaction fences the ones before it, and faults are told to it beforehand.
 */
export class MemoryKafka {
  readonly records: RowRecord[] = [];
  readonly letters: DeadLetter[] = [];
  readonly control = new Map<string, unknown>();
  readonly faults: Fault[] = [];
  readonly batches: number[] = [];
  /** Called with each batch before it is committed; a test can hold it there. */
  beforeCommit: (records: readonly RowRecord[]) => Promise<void> | void = () => undefined;
  /** While true every begin is refused; `refused` counts them. */
  isAway = false;
  refused = 0;
  opened = 0;
  largestSend = 0;

  open = async (): Promise<Publisher> => {
    let generation: number | undefined;
    return { begin: async () => this.#begin((generation ??= this.#takeRole())), close: async () => undefined };
  };

  get epoch(): EpochRecord | undefined {
    return this.control.get(stateKeys.epoch) as EpochRecord | undefined;
  }

  /** What compaction leaves: the last record of each key, tombstones taken away. */
  compacted(table: TableName): Map<string, RowRecord> {
    const last = new Map<string, RowRecord>();
    for (const record of this.records) if (record.table === table) last.set(`${record.key.tenantId} ${record.key.createdAt} ${record.key.id}`, record);
    return new Map([...last].filter(([, record]) => record.row !== null));
  }

  #takeRole(): number {
    if (this.isAway) throw new DifyEsError('KAFKA_UNREACHABLE', 'told to be away');
    return ++this.opened;
  }

  #begin(generation: number): PublishTransaction {
    const records: RowRecord[] = [];
    const letters: DeadLetter[] = [];
    const control: [string, unknown][] = [];
    const check = (): void => {
      if (generation !== this.opened) throw new DifyEsError('KAFKA_FENCED', 'another publisher was opened');
    };
    const step = async (at: FaultPoint, apply: () => void | Promise<void>): Promise<void> => {
      check();
      const fault = this.faults[0]?.at === at ? this.faults.shift() : undefined;
      if (fault?.how !== 'refuse') await apply();
      if (fault) throw fault.error ?? new Error(`told to fail at ${at}`);
    };
    check();
    if (this.isAway) {
      this.refused++;
      throw new DifyEsError('KAFKA_UNREACHABLE', 'told to be away');
    }
    if (this.faults[0]?.at === 'begin') throw this.faults.shift()!.error ?? new Error('told to fail at begin');
    return {
      send: (more) => step('send', () => {
        this.largestSend = Math.max(this.largestSend, more.reduce((sum, record) => sum + bytesOf(record), 0));
        records.push(...more);
      }),
      park: (more) => step('send', () => void letters.push(...more)),
      putControl: (key, value) => step('send', () => void control.push([key, value])),
      commit: () => step('commit', async () => {
        await this.beforeCommit(records);
        check();
        this.records.push(...records);
        this.letters.push(...letters);
        this.batches.push(records.length);
        for (const [key, value] of control) this.control.set(key, value);
      }),
      abort: async () => undefined,
    };
  }
}

function bytesOf(record: RowRecord): number {
  return record.row?.cells.size ?? 0;
}

export interface RunningStream {
  readonly loop: StreamLoop;
  /** Settles when the stream ends: by stop, or with its error. */
  readonly ended: Promise<void>;
  readonly progress: () => StreamProgress | undefined;
  /** Resolves when the condition holds after some progress report; rejects when the stream ends before. */
  until(condition: (progress: StreamProgress) => boolean): Promise<void>;
  /** Resolves when the slot is confirmed up to everything that was in the WAL at the moment of the call. */
  drained(client: pg.ClientBase): Promise<void>;
}

export interface StreamOverrides {
  readonly options?: Partial<StreamOptions>;
  readonly parts?: Partial<StreamParts>;
  readonly hooks?: StreamHooks;
  readonly cacheBytes?: number;
}

export function startStream(names: Names, kafka: MemoryKafka, overrides: StreamOverrides = {}): RunningStream {
  let last: StreamProgress | undefined;
  const waiting = new Set<() => void>();
  const loop = new StreamLoop({
    options: {
      ...STREAM_DEFAULTS, target: targetOf(names.env), slot: names.slot, publication: names.publication, deletePolicy: 'apply',
      confirmEveryMs: 20, retry: { firstMs: 10, longestMs: 200 }, ...overrides.options,
    },
    parts: {
      makeDecoder: () => new PgoutputDecoder(),
      makeRecords: (fetchRows) => new RecordMaker({ cacheBytes: overrides.cacheBytes ?? 16 << 20, truncatePolicy: 'ignore', fetchRows }),
      openPublisher: kafka.open,
      readEpoch: async () => kafka.epoch,
      isAnnouncedCleanup: async () => false,
      ...overrides.parts,
    },
    hooks: {
      ...overrides.hooks,
      onProgress: (progress) => {
        last = progress;
        overrides.hooks?.onProgress?.(progress);
        for (const look of [...waiting]) look();
      },
    },
    log: pino({ level: process.env['TEST_LOG'] ?? 'silent' }),
  });
  const ended = loop.run();
  ended.catch(() => undefined);
  const until = (condition: (progress: StreamProgress) => boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (!last || !condition(last)) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      ended.then(() => reject(new Error('the stream has ended')), reject);
      look();
    });
  return {
    loop, ended, until,
    progress: () => last,
    async drained(client) {
      const lsn = await currentLsn(client);
      await until(({ confirmedLsn }) => confirmedLsn !== null && confirmedLsn >= lsn);
    },
  };
}

async function currentLsn(client: pg.ClientBase): Promise<Lsn> {
  // A record of its own that is flushed: the walsender sends only what is.
  await client.query(`SELECT pg_logical_emit_message(true, 'test', 'drain')`);
  const { rows } = await client.query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn');
  return parseLsn(rows[0]!.lsn);
}

/** Every row of a table as texts by id, in the order of the columns. */
export async function tableAsText(client: pg.ClientBase, table: TableName): Promise<Map<string, Record<string, string | null>>> {
  const result = await client.query({ text: `SELECT * FROM ${table}`, types: { getTypeParser: () => (text: string) => text } });
  return new Map(result.rows.map((row: Record<string, string | null>) => [row['id']!, row]));
}

/** What the compacted topic says the table holds. Throws when one id lives under two keys. */
export function topicAsText(kafka: MemoryKafka, table: TableName): Map<string, Record<string, string | null>> {
  const rows = new Map<string, Record<string, string | null>>();
  for (const { row, key } of kafka.compacted(table).values()) {
    if (rows.has(key.id)) throw new Error(`row ${key.id} lives under two keys`);
    rows.set(key.id, textsOf(row!));
  }
  return rows;
}
