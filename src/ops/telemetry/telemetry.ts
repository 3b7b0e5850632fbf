import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import type { TableProgress } from '../../pipeline/backfill/table-scan.ts';
import type { StreamProgress } from '../../pipeline/capture/stream-contract.ts';
import type { Platform } from '../../run/platform.ts';
import type { SinkParts, SinkProgress } from '../../run/sink.ts';
import type { StreamParts } from '../../run/stream.ts';
import { Health, type Part } from './health.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { backfillNotes, noteBatch, noteMade, noteTables, noteWal, streamLag, streamNotes } from './note.ts';
import { pollPlatform, readRecordedState } from './poll.ts';
import { isTaken, serveTelemetry } from './server.ts';

const POLL_GRACE_MS = 1_000;

/** The hooks of the long-running parts; each may be called whether or not anybody listens on METRICS_PORT. */
export interface Telemetry {
  readonly health: Health;
  readonly stream: Required<Pick<StreamParts, 'onProgress' | 'onWal' | 'onTables' | 'onMade'>>;
  readonly onBatch: (progress: SinkProgress) => void;
  readonly sink: Required<Pick<SinkParts, 'onTrouble' | 'onRecovered' | 'onLateWrite'>>;
  readonly onBackfill: (progress: TableProgress) => void;
  /** The part has connected and begun. The reader says it itself, by its progress. */
  working(part: Part): void;
  /** Begins to look at the lag and the dead letters, where somebody listens. */
  follow(platform: Platform): void;
}

/**
 * Runs `body` with the metrics of these parts, served on METRICS_PORT (0: not served), and ends with it. Throws
 * CONFIG_INVALID when the address cannot be had: a probe of somebody else's process would be worse than none. Nobody
 * probes a `migrate`, which begins beside a `run` that has the port by the same `.env`: it goes on without.
 */
export async function withTelemetry<T>(config: Config, log: Logger, parts: readonly Part[], body: (telemetry: Telemetry) => Promise<T>): Promise<T> {
  const { metricsHost, metricsPort } = config.program;
  const health = new Health(parts);
  const stopping = new AbortController();
  let platform: Platform | undefined;
  let lastProgress: StreamProgress | undefined;
  let polling = Promise.resolve();
  const metrics: Metrics = createMetrics(() => {
    for (const [part, { ready }] of health.parts) metrics.ready.set({ part }, ready ? 1 : 0);
    if (platform) readRecordedState(metrics, platform);
    const lag = lastProgress && streamLag(lastProgress, Date.now());
    if (lag === undefined) metrics.stream.lag.remove();
    else metrics.stream.lag.set(lag);
  });
  const isService = parts.some((part) => part !== 'migrate');
  const server = metricsPort === 0 ? undefined : await serveTelemetry(metricsHost, metricsPort, metrics.registry, health).catch((error: unknown) => {
    if (isService || !isTaken(error)) throw error;
    log.warn({ host: metricsHost, port: metricsPort }, 'another process serves METRICS_PORT: going on without /metrics; a METRICS_PORT of its own for this command would serve them');
    return undefined;
  });
  if (server) log.info({ host: metricsHost, port: server.port }, 'serving /metrics, /healthz and /readyz');

  const noteProgress = streamNotes(metrics);
  const telemetry: Telemetry = {
    health,
    stream: {
      onProgress(progress) {
        noteProgress(progress);
        lastProgress = progress;
        health.set('stream', progress.connected, progress.connected ? 'reading' : 'not connected');
      },
      onWal: (verdict) => noteWal(metrics, verdict),
      onTables: (tables) => noteTables(metrics, tables),
      onMade: (made) => noteMade(metrics, made),
    },
    onBatch: (progress) => noteBatch(metrics, progress),
    sink: {
      onTrouble({ status }) {
        metrics.sink.retries.inc({ status });
        metrics.sink.waiting.set(1);
        health.set('sink', false, 'waiting for Elasticsearch');
      },
      onRecovered() {
        metrics.sink.waiting.set(0);
        health.set('sink', true, 'working');
      },
      onLateWrite: () => metrics.sink.lateWrites.inc(),
    },
    onBackfill: backfillNotes(metrics),
    working: (part) => health.set(part, true, 'working'),
    follow(opened) {
      platform = opened;
      if (server) polling = pollPlatform({ config, platform: opened, metrics, log, signal: stopping.signal });
    },
  };
  try {
    return await body(telemetry);
  } finally {
    stopping.abort();
    // kafkajs insists for half a minute on a broker that is away; what it would answer is of no use any more
    await Promise.race([polling, sleep(POLL_GRACE_MS, undefined, { ref: false })]);
    await server?.close();
  }
}
