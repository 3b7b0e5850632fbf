import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import { Cells } from '../../src/core/cells.ts';
import type { DeadLetter, RowShape } from '../../src/core/contracts.ts';
import { stateKeys } from '../../src/core/state.ts';
import { FIRST_OWN_VERSION } from '../../src/core/row-version.ts';
import { encodeRow } from '../../src/pipeline/encode/row-codec.ts';
import { schemaOf, schemaRecordOf } from '../../src/pipeline/encode/row-schema.ts';
import { createKafka } from '../../src/pipeline/kafka/client.ts';
import { openControlLog } from '../../src/pipeline/kafka/control-log.ts';
import { createLetterWriter } from '../../src/pipeline/kafka/dead-letters.ts';
import { topicNames } from '../../src/pipeline/kafka/topics.ts';
import { createDifySchema } from '../../test/support/dify/schema.ts';
import { Pipeline } from '../../test/support/pipeline.ts';
import { cleanUpElasticsearch, cleanUpKafka, createDatabase, dropDatabase } from '../../test/support/server-cleanup.ts';
import type { Isolation } from '../../test/support/servers.ts';

export interface Measured {
  readonly letters: number;
  readonly megabytes: number;
  /** VmHWM of the process, as the kernel counted it. */
  readonly highWaterMb: number;
  readonly seconds: number;
  readonly documents: number;
  readonly open: number;
}

const TENANT = '5f0c3a51-6f3f-4d0f-9d5c-3b1a6e0d7c11';
const CREATED_AT = '2026-07-10 08:25:41';
const TOGETHER = 500;
const EVERY_MS = 50;
const SHAPE: RowShape = { table: 'workflow_node_executions', columns: ['id', 'tenant_id', 'created_at', 'outputs'] };

const idOf = (n: number): string => `5f0c3a51-6f3f-4d0f-9d5c-${String(n).padStart(12, '0')}`;

/** Rows in PostgreSQL, a letter for each of them, one redrive, and what it took. */
export async function measureRedrive(here: Isolation, { letters, bytes, say }: { letters: number; bytes: number; say: (line: string) => void }): Promise<Measured> {
  const pipeline = new Pipeline(here.env);
  await createDatabase(here.env);
  try {
    const db = await pipeline.connect();
    await createDifySchema(db);
    await fillTable(db, letters);
    await db.end();
    await pipeline.verb(['setup']);
    say(`${letters} rows in PostgreSQL`);
    await park(here, letters, bytes);
    say(`${letters} letters of ${bytes} bytes in the dead-letter topic`);
    const { highWaterMb, seconds } = await redriveAll(pipeline);
    const index = `${here.indexPrefix}-workflow-node-executions-${TENANT}-2026.07`;
    await fetch(`${here.elasticsearchUrl}/${index}/_refresh`, { method: 'POST' });
    const { count } = (await (await fetch(`${here.elasticsearchUrl}/${index}/_count`)).json()) as { count: number };
    const { open } = JSON.parse(await pipeline.verb(['dlq', 'list', '--json'])) as { open: number };
    return { letters, megabytes: Math.round((letters * bytes) / 1e6), highWaterMb, seconds, documents: count, open };
  } finally {
    await pipeline.killAll();
    await Promise.allSettled([dropDatabase(here.env), cleanUpKafka(here), cleanUpElasticsearch(here)]);
  }
}

async function fillTable(db: { query(sql: string, values: unknown[]): Promise<unknown> }, letters: number): Promise<void> {
  await db.query(
    `INSERT INTO workflow_node_executions (id, tenant_id, app_id, workflow_id, triggered_from, index, node_id, node_type, title, status, elapsed_time, created_by_role, created_by, created_at)
     SELECT ('5f0c3a51-6f3f-4d0f-9d5c-' || lpad(n::text, 12, '0'))::uuid, $1::uuid, $1::uuid, $1::uuid, 'workflow-run', 1, 'n', 'llm', 't', 'succeeded', 0, 'account', $1::uuid, $2::timestamp FROM generate_series(0, $3::int - 1) n`,
    [TENANT, CREATED_AT, letters],
  );
}

async function park(here: Isolation, letters: number, bytes: number): Promise<void> {
  const kafka = createKafka({ brokers: here.brokers, clientId: 'test' }, pino({ level: 'silent' }));
  const names = topicNames(here.topicPrefix);
  const control = await openControlLog({ kafka, topic: names.control, logger: pino({ level: 'silent' }) });
  const schema = schemaOf(SHAPE);
  await control.put(stateKeys.schema(schema.hex), schemaRecordOf(schema));
  const writer = createLetterWriter(kafka, names);
  const outputs = Buffer.from(JSON.stringify({ text: 'x'.repeat(bytes) }));
  const letterOf = (n: number): DeadLetter => {
    const key = { tenantId: TENANT, createdAt: CREATED_AT, id: idOf(n) };
    const value = encodeRow(Cells.of([Buffer.from(key.id), Buffer.from(TENANT), Buffer.from(CREATED_AT), outputs]), schema.fingerprint);
    return { cause: 'refused', detail: '400 document_parsing_exception', table: SHAPE.table, key, version: FIRST_OWN_VERSION, origin: { stage: 'sink', partition: 0, offset: String(n) }, value };
  };
  for (let at = 0; at < letters; at += TOGETHER) await writer.park(Array.from({ length: Math.min(TOGETHER, letters - at) }, (_, i) => letterOf(at + i)));
  await writer.close();
  await control.close();
}

/** The mark only grows, so the last look before the end has the highest. */
async function redriveAll(pipeline: Pipeline): Promise<{ highWaterMb: number; seconds: number }> {
  const began = performance.now();
  const program = pipeline.spawn(['dlq', 'redrive', '--json']);
  let highWaterMb = 0;
  const look = setInterval(() => {
    try {
      const kilobytes = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${program.pid}/status`, 'utf8'))?.[1];
      highWaterMb = Math.max(highWaterMb, Math.round(Number(kilobytes ?? 0) / 1024));
    } catch {
      // it has ended
    }
  }, EVERY_MS);
  const { code } = await program.ended;
  clearInterval(look);
  if (code !== 0) throw new Error(program.describe());
  return { highWaterMb, seconds: (performance.now() - began) / 1000 };
}

export function describeMeasured({ letters, megabytes, highWaterMb, seconds, documents, open }: Measured): string {
  return `redrive of ${letters} letters (${megabytes} MB): ${highWaterMb} MB resident at most, ${seconds.toFixed(0)} s (${Math.round(letters / seconds)} letters/s), ${documents} documents, ${open} still open`;
}
