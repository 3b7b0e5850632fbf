import { startConsole } from '../ops/console/console.ts';
import type { Telemetry } from '../ops/telemetry/telemetry.ts';
import { handleTruncate } from '../ops/truncate/handle-truncate.ts';
import type { Platform } from '../run/platform.ts';
import { startSink } from '../run/sink.ts';
import { startStream } from '../run/stream.ts';
import { longRunning } from './long-running.ts';
import { untilStopped } from './until-stopped.ts';
import { defineVerb, type VerbContext } from './verb.ts';

export const run = defineVerb({
  name: 'run',
  summary: 'stream and sink in one process, until it is stopped',
  writes: true,
  declare: () => {},
  read: () => ({}),
  run: (context) =>
    longRunning(context, ['stream', 'sink'], async (platform, telemetry) => {
      const { config, log } = context;
      const { consolePort } = config.program;
      const served = consolePort === 0 ? null : await startConsole(config, consolePort, telemetry.health, log);
      try {
        await moveRows(context, platform, telemetry);
      } finally {
        await served?.close();
      }
    }),
});

async function moveRows({ config, log, signal }: VerbContext, platform: Platform, telemetry: Telemetry): Promise<void> {
  const member = await startSink(config, platform, log, telemetry.onBatch, telemetry.sink);
  telemetry.working('sink');
  const reader = await startStream(config, platform, log, { onTruncate: handleTruncate, ...telemetry.stream }).catch(async (error: unknown) => {
    await member.stop();
    throw error;
  });
  await untilStopped(signal, [member.failed, reader.done], async () => {
    await Promise.all([reader.stop(), member.stop()]);
  });
}
