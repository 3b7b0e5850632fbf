import { request as httpRequest } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../../src/config/config.ts';
import type { Lsn } from '../../../src/core/lsn.ts';
import { createMetrics } from '../../../src/ops/telemetry/metrics.ts';
import { backfillNotes, noteWal, streamLag, streamNotes } from '../../../src/ops/telemetry/note.ts';
import { withTelemetry } from '../../../src/ops/telemetry/telemetry.ts';
import type { StreamProgress } from '../../../src/pipeline/capture/stream-contract.ts';
import { freePort } from '../../support/free-port.ts';

const configOf = (port: number) => loadConfig({ METRICS_PORT: String(port) });

const log = pino({ level: 'silent' });
const progress = (rest: Partial<StreamProgress> = {}): StreamProgress => ({
  connected: true, epoch: 1, receivedLsn: 300n as Lsn, confirmedLsn: 100n as Lsn, transactions: 0, records: 0, deadLetters: 0, lastCommitTimeMs: 1_000_000, bufferedBytes: 0, ...rest,
});
const valueOf = (text: string, series: string): string | undefined => text.split('\n').find((line) => line.startsWith(`${series} `))?.slice(series.length + 1);

describe('what is noted', () => {
  it('adds up the totals of the reader, and forgets its positions while it is away', async () => {
    const metrics = createMetrics();
    const note = streamNotes(metrics);
    note(progress({ records: 5 }));
    note(progress({ records: 12, transactions: 2 }));
    expect(valueOf(await metrics.registry.metrics(), 'dify_es_stream_unconfirmed_bytes')).toBe('200');
    note(progress({ connected: false, epoch: null, receivedLsn: null, confirmedLsn: null, records: 12, transactions: 2 }));
    const text = await metrics.registry.metrics();
    expect(valueOf(text, 'dify_es_stream_published_records_total')).toBe('12');
    expect(valueOf(text, 'dify_es_stream_transactions_total')).toBe('2');
    for (const name of ['unconfirmed', 'confirmed_lsn', 'received_lsn']) expect(valueOf(text, `dify_es_stream_${name}_bytes`)).toBeUndefined();
  });

  it('calls an idle reader not behind, and one that waits or is away as old as its last commit', () => {
    expect(streamLag(progress(), 61_000_000)).toBe(0);
    expect(streamLag(progress({ bufferedBytes: 1 }), 1_060_000)).toBe(60);
    expect(streamLag(progress({ connected: false }), 1_060_000)).toBe(60);
    expect(streamLag(progress({ connected: false, lastCommitTimeMs: null }), 1_060_000)).toBeUndefined();
  });

  it('takes a value away that no longer holds: an old one would keep an alarm silent', async () => {
    const metrics = createMetrics();
    const wal = { level: 'ok', retainedBytes: 10, limitBytes: 100, share: 0.1, bytesPerSecond: 1, secondsLeft: 90 } as const;
    noteWal(metrics, wal);
    expect(valueOf(await metrics.registry.metrics(), 'dify_es_slot_limit_reached_seconds')).toBe('90');
    noteWal(metrics, { ...wal, level: 'unlimited', limitBytes: null, share: null, secondsLeft: null });
    const text = await metrics.registry.metrics();
    expect(['dify_es_slot_limit_reached_seconds', 'dify_es_slot_retained_ratio', 'dify_es_slot_retained_unlimited'].map((name) => valueOf(text, name))).toEqual([undefined, undefined, '1']);
  });

  it('reckons the time left from the pages of this process alone', async () => {
    const metrics = createMetrics();
    let now = 0;
    const note = backfillNotes(metrics, () => now);
    const scan = { table: 'workflow_runs', rows: 1, bytes: 1, totalRowsEstimate: 1, blocks: 1000, scan: 1, done: false } as const;
    note({ ...scan, blocksDone: 900 });
    now = 10_000;
    note({ ...scan, blocksDone: 910 });
    const text = await metrics.registry.metrics();
    expect(valueOf(text, 'dify_es_backfill_remaining_seconds{table="workflow_runs"}')).toBe('90');
    expect(valueOf(text, 'dify_es_backfill_progress_ratio{table="workflow_runs"}')).toBe('0.91');
  });

  it('says nothing of the slot in a process that never looked at it', async () => {
    expect(valueOf(await createMetrics().registry.metrics(), 'dify_es_slot_retained_bytes')).toBeUndefined();
  });
});

describe('the server of METRICS_PORT', () => {
  const get = (port: number, path: string, method = 'GET'): Promise<{ status: number; body: string }> =>
    new Promise((resolve, reject) => {
      httpRequest({ host: '127.0.0.1', port, path, method, agent: false }, (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (text: string) => (body += text)).once('end', () => resolve({ status: response.statusCode ?? 0, body }));
      }).once('error', reject).end();
    });

  it('is alive at once, ready when every part works, and not while Elasticsearch takes nothing', async () => {
    const port = await freePort();
    await withTelemetry(configOf(port), log, ['stream', 'sink'], async (telemetry) => {
      expect(await get(port, '/healthz')).toMatchObject({ status: 200 });
      expect(await get(port, '/readyz')).toMatchObject({ status: 503, body: expect.stringContaining('starting') as string });
      telemetry.working('sink');
      telemetry.stream.onProgress(progress());
      expect(await get(port, '/readyz')).toMatchObject({ status: 200 });
      telemetry.sink.onTrouble({ status: 429, type: 'es_rejected_execution_exception', attempt: 1, waitMs: 1, items: 1 });
      expect(await get(port, '/readyz')).toMatchObject({ status: 503, body: expect.stringContaining('waiting for Elasticsearch') as string });
      const { body } = await get(port, '/metrics');
      expect(valueOf(body, 'dify_es_ready{part="sink"}')).toBe('0');
      expect(valueOf(body, 'dify_es_ready{part="stream"}')).toBe('1');
      expect(valueOf(body, 'dify_es_sink_retries_total{status="429"}')).toBe('1');
      expect(body).toContain('process_cpu_seconds_total');
      telemetry.sink.onRecovered();
      expect(await get(port, '/readyz')).toMatchObject({ status: 200 });
      expect(await get(port, '/')).toMatchObject({ status: 404 });
      expect(await get(port, '/metrics', 'POST')).toMatchObject({ status: 405 });
    });
    await expect(get(port, '/healthz')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('refuses a port that somebody has, in words of the configuration', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    const { port } = other.address() as AddressInfo;
    await expect(withTelemetry(configOf(port), log, ['sink'], () => Promise.resolve())).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('EADDRINUSE') as string });
    other.close();
  });

  it('is done without where a migrate finds the port taken, most likely by `run` with the same settings; a wrong host is a fault all the same', async () => {
    const port = await freePort();
    const lines: string[] = [];
    const said = pino({}, { write: (line: string) => void lines.push(line) });
    await withTelemetry(configOf(port), log, ['stream', 'sink'], async () => {
      expect(await withTelemetry(configOf(port), said, ['migrate'], () => Promise.resolve('migrated'))).toBe('migrated');
      expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ level: 40, port, msg: expect.stringContaining('METRICS_PORT') as string }]);
      expect(await get(port, '/readyz')).toMatchObject({ body: expect.stringContaining('"sink"') as string });
    });
    const elsewhere = loadConfig({ METRICS_PORT: String(port), METRICS_HOST: '192.0.2.1' });
    await expect(withTelemetry(elsewhere, log, ['migrate'], () => Promise.resolve())).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  it('listens nowhere with 0', async () => {
    expect(await withTelemetry(configOf(0), log, ['sink'], () => Promise.resolve('ran'))).toBe('ran');
  });
});
