import { randomInt, randomUUID } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../../test/support/pipeline.ts';
import type { Installation } from './installation.ts';
import type { Meter, Usages } from './processes.ts';
import { startRecorder } from './recorder.ts';

export interface RoundResult {
  readonly rows: number;
  readonly seconds: number;
  readonly rowsPerSecond: number;
  /** Of the records on the broker's disk, compressed; only where it was looked up. */
  readonly kafkaBytes?: number;
  readonly usages: Usages;
}

interface Migrated {
  readonly rows: number;
  /** Of their text. */
  readonly bytes: number;
  /** The program's own clock: from its connections to the published barrier. */
  readonly seconds: number;
  /** When that clock stopped, as performance.now(): the program says its result and only then closes its connections. */
  readonly endedAt: number;
}

const LOOK_MS = 5;

/** Writes the bodies of the product's own bulks to `file`: a whole backfill through a proxy, with search_text off. Warms the servers up too. */
export async function recordDocuments(open: (extra: Readonly<Record<string, string>>) => Installation, elasticsearchUrl: string, file: string): Promise<{ installation: Installation; rows: number; bytes: number }> {
  const recorder = await startRecorder(elasticsearchUrl, file);
  const installation = open({ ELASTICSEARCH_HOSTS: JSON.stringify([recorder.url]), ELASTICSEARCH_SEARCH_TEXT: 'false' });
  try {
    await installation.setup();
    await Promise.all([installation.pipeline.start('stream'), installation.startSinks()]);
    const { rows, bytes } = await migrate(installation);
    await installation.settled();
    await expectDocuments(installation, rows);
    return { installation, rows, bytes };
  } finally {
    await installation.pipeline.killAll();
    await recorder.close();
  }
}

/** Backfill with the sinks running: from the first row read until the last document is acknowledged. */
export async function endToEnd(installation: Installation): Promise<RoundResult> {
  await installation.setup();
  const [stream, sinks] = await Promise.all([installation.pipeline.start('stream'), installation.startSinks()]);
  const meter = installation.meter();
  meter.program('stream', stream.pid);
  for (const { pid } of sinks) meter.program('sink', pid);
  const { rows, seconds, endedAt } = await migrate(installation, meter);
  await installation.settled();
  const result = roundOf(rows, seconds + (performance.now() - endedAt) / 1000, meter);
  await expectDocuments(installation, rows);
  return result;
}

/** Backfill to Kafka with no sink, and then sinks that find everything there: what a replay reads. */
export async function kafkaThenReplay(installation: Installation): Promise<{ kafka: RoundResult; replay: RoundResult }> {
  await installation.setup();
  const stream = await installation.pipeline.start('stream');
  let meter = installation.meter();
  meter.program('stream', stream.pid);
  const { rows, seconds } = await migrate(installation, meter);
  const kafka = { ...roundOf(rows, seconds, meter), kafkaBytes: bytesOfTopics(installation) };

  meter = installation.meter();
  const sinks = Array.from({ length: installation.ground.options.sinks }, () => installation.pipeline.spawn(['sink']));
  for (const { pid } of sinks) meter.program('sink', pid, true);
  await Promise.race(sinks.map((sink) => sink.said('joined the consumer group', 90_000)));
  const began = performance.now();
  await installation.settled();
  const replay = roundOf(rows, (performance.now() - began) / 1000, meter);
  await expectDocuments(installation, rows);
  return { kafka, replay };
}

/** Dify's pattern written while the reader is stopped; from the moment it reads again until all of it is settled. */
export async function catchUp(installation: Installation, tenantIds: readonly string[], changes: number): Promise<RoundResult> {
  const { pipeline } = installation;
  await installation.setup();
  const [first, sinks] = await Promise.all([pipeline.start('stream'), installation.startSinks()]);
  await first.stop();
  const writer = pipeline.write({ seed: randomInt(1 << 30), tenantIds, nodesPerRun: 5, rowSize: installation.ground.options.rowSize, deletes: 0 });
  await writer.reached(changes);
  const { transactions } = await writer.stop();
  const last = await writeLast(installation, tenantIds[0]!);

  const meter = installation.meter();
  for (const { pid } of sinks) meter.program('sink', pid);
  const stream = pipeline.spawn(['stream']);
  meter.program('stream', stream.pid, true);
  await stream.said('reading the log', 90_000);
  const began = performance.now();
  // The log is published in the order of the commits: when the last one is there, all others are in Kafka.
  await until('the last change is a document', async () => (await fetch(last)).status === 200, 600_000);
  await installation.settled();
  return roundOf(transactions + 1, (performance.now() - began) / 1000, meter);
}

/** A row of its own after all others. Returns the address of its document. */
async function writeLast(installation: Installation, tenant: string): Promise<string> {
  const id = randomUUID();
  const db = await installation.pipeline.connect();
  try {
    await db.query(
      `INSERT INTO workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
       VALUES ($1, $2, $1, $1, $1, 'service-api', 'account', $1, timestamp '2026-01-15 12:00:00')`, [id, tenant]);
  } finally {
    await db.end();
  }
  return `${installation.ground.elasticsearchUrl}/${installation.prefix}-workflow-app-logs-${tenant}-2026.01/_doc/${id}?_source=false`;
}

async function migrate(installation: Installation, meter?: Meter): Promise<Migrated> {
  const { dataType } = installation.ground.options;
  const program = installation.pipeline.spawn(['migrate', '--json', ...(dataType === undefined ? [] : ['--data-type', dataType])]);
  meter?.program('migrate', program.pid, true);
  while (program.isRunning() && program.stdout === '') await sleep(LOOK_MS);
  const endedAt = performance.now();
  const { code } = await program.ended;
  if (code !== 0) throw new Error(program.describe());
  const { tables, seconds } = JSON.parse(program.stdout) as { tables: readonly { rows: number; bytes: number }[]; seconds: number };
  return { rows: tables.reduce((sum, { rows }) => sum + rows, 0), bytes: tables.reduce((sum, { bytes }) => sum + bytes, 0), seconds, endedAt };
}

function roundOf(rows: number, seconds: number, meter: Meter): RoundResult {
  return { rows, seconds, rowsPerSecond: rows / seconds, usages: meter.stop() };
}

/** A rate of documents that are not there would be worth nothing. */
async function expectDocuments(installation: Installation, rows: number): Promise<void> {
  const documents = await installation.documents();
  if (documents !== rows) throw new Error(`${rows} rows and ${documents} documents\n${installation.pipeline.describe()}`);
}

/** The folders of this installation alone: of another one's topics Kafka may be removing them. */
function bytesOfTopics({ ground, prefix }: Installation): number {
  const data = join(ground.kafkaHome, 'data');
  const partitions = readdirSync(data).filter((folder) => folder.startsWith(`${prefix}.cdc.`));
  const logs = partitions.flatMap((folder) => readdirSync(join(data, folder)).filter((file) => file.endsWith('.log')).map((file) => join(data, folder, file)));
  return logs.reduce((sum, path) => sum + statSync(path).size, 0);
}
