import { readFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { createDifySchema } from '../../test/support/dify/schema.ts';
import { Pipeline, type Env } from '../../test/support/pipeline.ts';
import type { Program } from '../../test/support/program.ts';

export interface MemoryOptions {
  /** Rows of about 1 kB in one transaction. */
  readonly rows: number;
  /** Rows of 8 MB. */
  readonly largeRows: number;
  readonly say?: (line: string) => void;
}

/** Peak resident memory in MB, by the kernel's own high-water mark (VmHWM in proc(5)), and the seconds of each part. */
export interface MemoryFigures {
  /** One transaction of `rows` rows, from its commit until all documents are there. */
  readonly transaction: { readonly streamMb: number; readonly sinkMb: number; readonly seconds: number };
  /** The same records once more, for a sink that finds them all in Kafka. */
  readonly backlog: { readonly sinkMb: number; readonly seconds: number };
  readonly migrate: { readonly migrateMb: number; readonly seconds: number };
  readonly large: { readonly streamMb: number; readonly sinkMb: number; readonly migrateMb: number };
  readonly compared: number;
}

const LARGE_BYTES = 8 * 1024 * 1024;
const TENANT = '11111111-2222-4333-8444-555555555555';
/** The slot is confirmed once for a whole transaction: until then a drain sees no progress, however far the reader is in it. */
const PATIENCE = { stallMs: 7_200_000, unattendedMs: 120_000 };

/** Needs an empty database. Throws when both ends differ at the end. */
export async function measureMemory(env: Env, { rows, largeRows, say = () => {} }: MemoryOptions): Promise<MemoryFigures> {
  const pipeline = new Pipeline({ ...env, KAFKA_SESSION_TIMEOUT_MS: '30000', ELASTICSEARCH_TIMEOUT: '120' });
  const db = await pipeline.connect();
  try {
    await createDifySchema(db);
    await pipeline.verb(['setup']);
    const [stream, sink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);

    const written = performance.now();
    await oneTransaction(db, rows);
    say(`${rows} rows committed in ${seconds(written)} s`);
    let began = performance.now();
    await pipeline.drained(PATIENCE);
    const transaction = { streamMb: peak(stream), sinkMb: peak(sink), seconds: seconds(began) };
    say(`transaction: ${JSON.stringify(transaction)}`);
    await sink.stop();

    const again = new Pipeline({ ...pipeline.env, KAFKA_CONSUMER_GROUP: `${pipeline.env['KAFKA_CONSUMER_GROUP'] ?? 'sink'}-again` });
    began = performance.now();
    const second = await again.start('sink');
    await again.drained(PATIENCE);
    const backlog = { sinkMb: peak(second), seconds: seconds(began) };
    say(`backlog: ${JSON.stringify(backlog)}`);
    await second.stop();

    began = performance.now();
    const migrate = { migrateMb: await peakOfVerb(pipeline, ['migrate']), seconds: seconds(began) };
    say(`migrate: ${JSON.stringify(migrate)}`);
    await stream.stop();

    // New processes: the mark of the old ones is that of the small rows.
    const [wideStream, wideSink] = await Promise.all([pipeline.start('stream'), pipeline.start('sink')]);
    for (let i = 0; i < largeRows; i++) await oneLargeRow(db);
    await pipeline.drained(PATIENCE);
    const migrateMb = await peakOfVerb(pipeline, ['migrate', '--data-type', 'workflow_runs']);
    await pipeline.drained(PATIENCE);
    const large = { streamMb: peak(wideStream), sinkMb: peak(wideSink), migrateMb };
    say(`${largeRows} rows of 8 MB: ${JSON.stringify(large)}`);
    const compared = await pipeline.equal();
    return { transaction, backlog, migrate, large, compared };
  } finally {
    await pipeline.killAll();
    await db.end();
  }
}

/** Rows as the server makes them, so that the client is not what is measured; about 1 kB of text each, not compressible to nothing. */
async function oneTransaction(db: pg.Client, rows: number): Promise<void> {
  await db.query(
    `INSERT INTO workflow_node_executions (id, tenant_id, app_id, workflow_id, triggered_from, workflow_run_id, index, node_id, node_type, title, inputs, outputs, status, elapsed_time, created_at, created_by_role, created_by)
     SELECT gen_random_uuid(), $1, $1, $1, 'workflow-run', gen_random_uuid(), n, 'node', 'llm', 'LLM',
            json_build_object('text', (SELECT string_agg(md5(n::text || i::text), ' ') FROM generate_series(1, 12) i))::text, json_build_object('answer', (SELECT string_agg(md5(i::text || n::text), ' ') FROM generate_series(1, 12) i))::text,
            'succeeded', 0.5, timestamp '2026-08-15 12:00:00', 'account', $1
     FROM generate_series(1, $2::int) n`, [TENANT, rows]);
}

async function oneLargeRow(db: pg.Client): Promise<void> {
  await db.query(
    `INSERT INTO workflow_runs (id, tenant_id, app_id, workflow_id, type, triggered_from, version, graph, inputs, status, outputs, created_by_role, created_by, created_at)
     VALUES ($1, $2, $2, $2, 'workflow', 'app-run', 'draft', '{}', '{}', 'succeeded', $3, 'account', $2, timestamp '2026-08-15 12:00:00')`,
    [randomUUID(), TENANT, JSON.stringify({ answer: Array.from({ length: LARGE_BYTES / 64 }, (_, i) => `${i.toString(36).padStart(8, '0')} ${(i * 2654435761 % 4294967296).toString(36)} ${'lorem ipsum dolor sit amet consectetur'}`.slice(0, 63)).join(' ') })]);
}

async function peakOfVerb(pipeline: Pipeline, args: readonly string[]): Promise<number> {
  const program = pipeline.spawn(args);
  let highest = 0;
  const timer = setInterval(() => (highest = Math.max(highest, peak(program))), 50);
  const { code } = await program.ended;
  clearInterval(timer);
  if (code !== 0) throw new Error(program.describe());
  return highest;
}

/** 0 when the process is gone. */
function peak(program: Program): number {
  try {
    const [, kb] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${program.pid}/status`, 'utf8')) ?? [];
    return Math.round(Number(kb ?? 0) / 1024);
  } catch {
    return 0;
  }
}

const seconds = (since: number): number => Math.round((performance.now() - since) / 100) / 10;
